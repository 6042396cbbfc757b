"""Integration for FastAPI and Starlette."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from monlight._before_send import BeforeSend
from monlight._clients import Clients, create_clients
from monlight._safety import never_raise
from monlight.integrations.asgi import MonlightMiddleware, describe_request

__all__ = ["MonlightExceptionHandler", "MonlightMiddleware", "setup_monlight"]


async def MonlightExceptionHandler(request: Request, exc: Exception) -> JSONResponse:  # noqa: N802
    """Returns a JSON response with status 500.

    Reports the exception to `app.state.monlight_error_client`, unless the middleware has reported it.
    """
    _report(request, exc)
    return JSONResponse(status_code=500, content={"detail": "Internal server error"})


@never_raise(None)
def _report(request: Request, exc: Exception) -> None:
    errors = getattr(request.app.state, "monlight_error_client", None)
    if errors is not None:
        errors._report_once(exc, "handler", describe_request(request.scope))


def setup_monlight(
    app: Any,
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
    """Reports unhandled exceptions of a FastAPI or Starlette application and records its request metrics.

    Installs `MonlightExceptionHandler`, unless the application has a handler for `Exception` or status 500.

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
def _install(app: Any, clients: Clients) -> None:
    errors = clients["error_client"]
    if errors is not None:
        app.state.monlight_error_client = errors
        if Exception not in app.exception_handlers and 500 not in app.exception_handlers:
            app.add_exception_handler(Exception, MonlightExceptionHandler)
    app.add_middleware(MonlightMiddleware, metrics_client=clients["metrics_client"], error_client=errors)
