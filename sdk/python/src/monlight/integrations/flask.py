"""Integration for Flask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Flask, got_request_exception, request, request_started

from monlight._before_send import BeforeSend
from monlight._clients import Clients, create_clients
from monlight._safety import never_raise
from monlight.integrations._request_metrics import UNMATCHED
from monlight.integrations.wsgi import PATH_PARAMETERS_KEY, PATH_TEMPLATE_KEY, MonlightMiddleware

__all__ = ["MonlightMiddleware", "setup_monlight"]

_EXTENSION_KEY = "monlight"


def setup_monlight(
    app: Flask,
    *,
    error_tracker_url: str | None = None,
    metrics_collector_url: str | None = None,
    api_key: str,
    project: str = "default",
    flush_interval: float = 10.0,
    environment: str | None = None,
    release: str | None = None,
    timeout: float = 5.0,
    excluded_headers: Iterable[str] | None = None,
    include_locals: bool = False,
    debug: bool = False,
    before_send: BeforeSend | None = None,
) -> Clients:
    """Reports unhandled exceptions of a Flask application and records its request metrics.

    Does not change the application's responses.

    Args:
        app: Application to instrument.
        error_tracker_url, metrics_collector_url, api_key, project, flush_interval, environment, release, timeout,
            excluded_headers, include_locals, debug, before_send: See `monlight.init`.

    Returns:
        The clients that were created.
    """
    clients = create_clients(
        error_tracker_url=error_tracker_url,
        metrics_collector_url=metrics_collector_url,
        api_key=api_key,
        project=project,
        flush_interval=flush_interval,
        environment=environment,
        release=release,
        timeout=timeout,
        excluded_headers=excluded_headers,
        include_locals=include_locals,
        debug=debug,
        before_send=before_send,
    )
    _install(app, clients)
    return clients


@never_raise(None)
def _install(app: Flask, clients: Clients) -> None:
    app.extensions[_EXTENSION_KEY] = clients
    request_started.connect(_store_route, app)
    got_request_exception.connect(_report, app)
    app.wsgi_app = MonlightMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, clients["metrics_client"], clients["error_client"]
    )


@never_raise(None)
def _store_route(sender: Flask, **_: Any) -> None:
    rule = request.url_rule
    request.environ[PATH_TEMPLATE_KEY] = UNMATCHED if rule is None else rule.rule
    request.environ[PATH_PARAMETERS_KEY] = request.view_args


@never_raise(None)
def _report(sender: Flask, exception: BaseException, **_: Any) -> None:
    errors = sender.extensions[_EXTENSION_KEY]["error_client"]
    if errors is not None:
        # The middleware provides the request context.
        errors._report_once(exception, "handler")
