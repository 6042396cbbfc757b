"""Django.

Put the middleware first and say where to report to:

    MIDDLEWARE = ["monlight.integrations.django.MonlightMiddleware", ...]
    MONLIGHT = {"error_tracker_url": "...", "metrics_collector_url": "...", "api_key": "...", "project": "shop"}
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.signals import got_request_exception

from monlight import _context
from monlight._clients import Clients, make_clients
from monlight._guard import harmless, warn
from monlight.integrations._requests import STATUS_GONE, UNMATCHED, count_request

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
}


@functools.cache
def clients() -> Clients:
    """The clients of this process, as `settings.MONLIGHT` describes them."""
    given = dict(getattr(settings, "MONLIGHT", {}))
    for name in given.keys() - _DEFAULTS.keys():
        warn(f"Monlight does not know the setting MONLIGHT[{name!r}]")
        del given[name]
    return make_clients(**{**_DEFAULTS, **given})


class MonlightMiddleware:
    """Counts requests, and reports what views and other middlewares raise and nobody handles.

    Works in synchronous and asynchronous stacks. What is measured ends when the answer is ready; a streamed one is sent
    after that.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        _connect()

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._answer_async(request)
        start = perf_counter()
        with _context.request(lambda: describe_request(request)):
            try:
                response = self.get_response(request)
            except BaseException:
                _count(request, 500, start)
                raise
        _count(request, response.status_code, start)
        return response

    async def _answer_async(self, request: Any) -> Any:
        start = perf_counter()
        with _context.request(lambda: describe_request(request)):
            try:
                awaitable: Awaitable[Any] = self.get_response(request)
                response = await awaitable
            except BaseException as error:
                _count(request, 500 if isinstance(error, Exception) else STATUS_GONE, start)
                raise
        _count(request, response.status_code, start)
        return response


@harmless(None)
def _connect() -> None:
    got_request_exception.connect(_report, dispatch_uid="monlight")


@harmless(None)
def _report(request: Any = None, **_: Any) -> None:
    exception, errors = sys.exc_info()[1], clients()["error_client"]
    if exception is not None and errors is not None:
        errors._report_once(exception, "handler", describe_request(request))


@harmless(None)
def _count(request: Any, status: int, start: float) -> None:
    route = getattr(request.resolver_match, "route", None)
    endpoint = UNMATCHED if route is None else "/" + str(route).removeprefix("/")
    count_request(clients()["metrics_client"], request.method, endpoint, status, perf_counter() - start)


def describe_request(request: Any) -> dict[str, Any]:
    """What a report says of the request, as `request_context`."""
    # Not by get_host, which raises where the host is not allowed.
    host = request.META.get("HTTP_HOST") or request.META.get("SERVER_NAME", "")
    return {
        "request_url": f"{request.scheme}://{host}{request.get_full_path()}",
        "request_method": request.method,
        "request_headers": dict(request.headers),
    }
