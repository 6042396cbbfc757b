"""Django application in one file, for WSGI (`application`) and ASGI (`asgi`)."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from app_settings import MONLIGHT
from monlight.integrations.asgi import MonlightMiddleware

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[
        "monlight.integrations.django.MonlightMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    MONLIGHT=MONLIGHT,
)


def item(request: HttpRequest, item: int) -> JsonResponse:
    return JsonResponse({"item": item})


@csrf_exempt
def broken(request: HttpRequest, item: int) -> JsonResponse:
    raise ValueError(f"item {item} is broken")


async def async_broken(request: HttpRequest, item: int) -> JsonResponse:
    raise KeyError(item)


api = [path("items/<int:item>", item), path("broken/<int:item>", broken), path("async-broken/<int:item>", async_broken)]
urlpatterns = [path("api/", include(api))]

django.setup()
application = get_wsgi_application()
asgi = MonlightMiddleware(get_asgi_application())
