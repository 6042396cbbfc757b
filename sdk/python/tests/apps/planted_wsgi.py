"""Flask and Django in one WSGI application, whose views fail with the secrets of `planted` in their variables."""

import logging
import time
from collections.abc import Iterable
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from flask import Flask, request

import monlight
import planted
from app_settings import MONLIGHT
from monlight.integrations.flask import setup_monlight

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["monlight.integrations.django.MonlightMiddleware"],
    MONLIGHT={**MONLIGHT, "include_locals": True},
)
flask_app = Flask(__name__)
clients = setup_monlight(flask_app, **MONLIGHT, include_locals=True)
assert clients["error_client"] is not None
logging.getLogger("planted").addHandler(monlight.MonlightHandler(clients["error_client"]))


@flask_app.post("/reset/<token>")
def reset(token: str) -> str:
    environ, headers, cookies, form = request.environ, request.headers, request.cookies, request.get_json()
    planted.charge(request._get_current_object(), dict(headers), request.data, token)  # type: ignore[attr-defined]
    return f"{environ}{cookies}{form}"


@flask_app.get("/hang")
def hang() -> str:
    time.sleep(60)
    return ""


@csrf_exempt
def django_reset(request: HttpRequest, token: str) -> HttpResponse:
    meta, headers, cookies, query = request.META, request.headers, request.COOKIES, request.GET
    planted.charge(request, dict(headers), request.body, token)
    return HttpResponse(f"{meta}{cookies}{query}")


def django_hang(request: HttpRequest) -> HttpResponse:
    time.sleep(60)
    return HttpResponse()


urlpatterns = [path("reset/<token>", django_reset), path("hang", django_hang)]
django.setup()
django_app = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Sends requests below `/django` to Django and all others to Flask."""
    if environ["PATH_INFO"].startswith("/django/"):
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/django")
        return django_app(environ, start_response)  # type: ignore[no-any-return]
    return flask_app(environ, start_response)
