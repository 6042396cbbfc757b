"""Integration for Django.

Put the middleware first and configure the services in the settings:

    MIDDLEWARE = ["monlight.integrations.django.MonlightMiddleware", ...]
    INSTALLED_APPS = ["monlight.integrations.django.MonlightConfig", ...]  # for management commands
    MONLIGHT = {"error_tracker_url": "...", "metrics_collector_url": "...", "api_key": "...", "project": "shop"}

The keys of `MONLIGHT` are the arguments of `monlight.init`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import AppConfig
from django.conf import settings
from django.core.signals import got_request_exception

from monlight import _context
from monlight._clients import Clients, create_clients
from monlight._safety import log_warning, never_raise
from monlight.integrations._request_metrics import STATUS_CLIENT_CLOSED, UNMATCHED, record_request

_DEFAULTS: Mapping[str, Any] = {
    "error_tracker_url": None,
    "metrics_collector_url": None,
    "api_key": "",
    "project": "default",
    "flush_interval": 10.0,
    "environment": None,
    "release": None,
    "timeout": 5.0,
    "excluded_headers": None,
    "include_locals": False,
    "debug": False,
    "before_send": None,
}


@functools.cache
def clients() -> Clients:
    """Returns the clients of this process, created from `settings.MONLIGHT` on the first call."""
    options = dict(getattr(settings, "MONLIGHT", {}))
    for name in options.keys() - _DEFAULTS.keys():
        log_warning(f"monlight: invalid Django settings: unknown key MONLIGHT[{name!r}]; the key is ignored")
        del options[name]
    return create_clients(**{**_DEFAULTS, **options})


class MonlightConfig(AppConfig):  # type: ignore[misc]
    """Application for `INSTALLED_APPS` that reports exceptions of management commands."""

    name = "monlight.integrations.django"
    label = "monlight"

    def ready(self) -> None:
        _connect_signal()


class MonlightMiddleware:
    """Django middleware that records request metrics and reports unhandled exceptions of views and middlewares.

    Supports synchronous and asynchronous stacks. The duration of a request ends when the response is ready; a streaming
    response is sent after that.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        _connect_signal()

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._call_async(request)
        start = perf_counter()
        with _context.request_scope(lambda: describe_request(request)):
            try:
                response = self.get_response(request)
            except BaseException as error:
                _record_failure(request, error, start)
                raise
        _record(request, response.status_code, start)
        return response

    async def _call_async(self, request: Any) -> Any:
        start = perf_counter()
        with _context.request_scope(lambda: describe_request(request)):
            try:
                awaitable: Awaitable[Any] = self.get_response(request)
                response = await awaitable
            except BaseException as error:
                _record_failure(request, error, start)
                raise
        _record(request, response.status_code, start)
        return response


@never_raise(None)
def _connect_signal() -> None:
    # Creating the clients installs the hooks for exceptions outside of requests.
    clients()
    got_request_exception.connect(_report, dispatch_uid="monlight")


@never_raise(None)
def _report(request: Any = None, **_: Any) -> None:
    exception, errors = sys.exc_info()[1], clients()["error_client"]
    if exception is not None and errors is not None:
        errors._report_once(exception, "handler", describe_request(request))


@never_raise(None)
def _record_failure(request: Any, error: BaseException, start: float) -> None:
    """Records a request that ended with an exception, and reports it if the server raised it, which Django ignores."""
    is_aborted_by_server = isinstance(error, SystemExit)
    _record(request, 500 if is_aborted_by_server or isinstance(error, Exception) else STATUS_CLIENT_CLOSED, start)
    errors = clients()["error_client"]
    if errors is not None and is_aborted_by_server:
        errors._report_failure(error, "middleware", describe_request(request))


@never_raise(None)
def _record(request: Any, status: int, start: float) -> None:
    route = getattr(request.resolver_match, "route", None)
    endpoint = UNMATCHED if route is None else "/" + str(route).removeprefix("/")
    record_request(clients()["metrics_client"], request.method, endpoint, status, perf_counter() - start)


def describe_request(request: Any) -> dict[str, Any]:
    """Returns the `request_context` of a request, for a report."""
    # Avoids get_host, which raises if the host is not in ALLOWED_HOSTS.
    host = request.META.get("HTTP_HOST") or request.META.get("SERVER_NAME", "")
    return {
        "request_url": f"{request.scheme}://{host}{request.get_full_path()}",
        "request_method": request.method,
        "request_headers": dict(request.headers),
        "client_address": request.META.get("REMOTE_ADDR"),
        "path_parameters": getattr(request.resolver_match, "kwargs", None),
    }
