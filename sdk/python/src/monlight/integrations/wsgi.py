"""Middleware for any WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, TypeAlias
from wsgiref.util import request_uri

from monlight import _context
from monlight._guard import harmless
from monlight.error_client import ErrorClient
from monlight.integrations._requests import UNMATCHED, count_request
from monlight.metrics_client import MetricsClient

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

# Where a framework, which alone knows its routes, leaves the template of the one that was taken.
TEMPLATE = "monlight.path_template"
_SEEN = "monlight.seen"


class MonlightMiddleware:
    """Counts requests and reports what the application raises.

    Requests become `http_requests_total` and `http_request_duration_seconds` with the labels `method`, `endpoint` and
    `status`. `endpoint` is what the application leaves in `environ["monlight.path_template"]`.
    """

    def __init__(
        self, app: WSGIApp, metrics_client: MetricsClient | None = None, error_client: ErrorClient | None = None
    ) -> None:
        self.app = app
        self.metrics_client = metrics_client
        self.error_client = error_client

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if _SEEN in environ:
            return self.app(environ, start_response)
        environ[_SEEN] = True
        exchange = _Exchange(environ, start_response, self.metrics_client, self.error_client)
        with _context.request(lambda: describe_request(environ)):
            try:
                body = self.app(environ, exchange.start_response)
            except BaseException as error:
                exchange.failed(error)
                raise
        if _is_whole(body, environ):
            exchange.ended()
            return body
        return _Body(body, exchange)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, environ: Environ, start: StartResponse, metrics: MetricsClient | None, errors: ErrorClient | None
    ) -> None:
        self._environ = environ
        self._start_response = start
        self._metrics = metrics
        self._errors = errors
        self._status: int | None = None
        self._start = perf_counter()

    def start_response(self, status: str, *rest: Any, **named: Any) -> Callable[[bytes], object]:
        self._note(status)
        return self._start_response(status, *rest, **named)

    @harmless(None)
    def _note(self, status: str) -> None:
        self._status = int(status[:3])

    @harmless(None)
    def failed(self, error: BaseException) -> None:
        self.ended()
        if self._errors is not None and isinstance(error, Exception):
            self._errors._report_once(error, "middleware", describe_request(self._environ))

    @harmless(None)
    def ended(self) -> None:
        """Counts the request, once."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            duration_s = perf_counter() - self._start
            endpoint = str(self._environ.get(TEMPLATE, UNMATCHED))
            method = str(self._environ.get("REQUEST_METHOD"))
            count_request(metrics, method, endpoint, self._status or 500, duration_s)


def _is_whole(body: Iterable[bytes], environ: Environ) -> bool:
    """Whether a body has to be passed on as it is: servers look at a list's length, and send files themselves."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(body, (list, tuple)) or (isinstance(wrapper, type) and isinstance(body, wrapper))


class _Body:
    """A body that is still being made while it is sent."""

    def __init__(self, body: Iterable[bytes], exchange: _Exchange) -> None:
        self._body = body
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except Exception as error:
            self._exchange.failed(error)
            raise

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._exchange.ended()


def describe_request(environ: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of the request, as `request_context`."""
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
    }
    return {
        "request_url": request_uri(dict(environ)),
        "request_method": environ.get("REQUEST_METHOD"),
        "request_headers": headers,
    }
