"""Flask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Flask, got_request_exception, request, request_started

from monlight._clients import Clients, make_clients
from monlight._guard import harmless
from monlight.integrations._requests import UNMATCHED
from monlight.integrations.wsgi import TEMPLATE, MonlightMiddleware

__all__ = ["MonlightMiddleware", "setup_monlight"]

_EXTENSION = "monlight"


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
) -> Clients:
    """Reports what a Flask application raises and counts its requests, each where there is a URL for it.

    Nothing about the application's answers changes. The other arguments are those of `ErrorClient` and `MetricsClient`.
    """
    clients = make_clients(
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
    )
    _install(app, clients)
    return clients


@harmless(None)
def _install(app: Flask, clients: Clients) -> None:
    app.extensions[_EXTENSION] = clients
    request_started.connect(_note_template, app)
    got_request_exception.connect(_report, app)
    app.wsgi_app = MonlightMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, clients["metrics_client"], clients["error_client"]
    )


@harmless(None)
def _note_template(sender: Flask, **_: Any) -> None:
    rule = request.url_rule
    request.environ[TEMPLATE] = UNMATCHED if rule is None else rule.rule


@harmless(None)
def _report(sender: Flask, exception: BaseException, **_: Any) -> None:
    errors = sender.extensions[_EXTENSION]["error_client"]
    if errors is not None:
        # The middleware has said which request it is.
        errors._report_once(exception, "handler")
