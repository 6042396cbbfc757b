"""Middleware for WSGI applications."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, TypeAlias
from wsgiref.util import request_uri

from monlight import _context, _scope
from monlight._safety import never_raise
from monlight.error_client import ErrorClient
from monlight.integrations._request_metrics import UNMATCHED, record_request
from monlight.metrics_client import MetricsClient

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

# Environ key in which a framework, which alone knows its routes, stores the path template of the matched route.
PATH_TEMPLATE_KEY = "monlight.path_template"
# Environ key in which it stores the values of the parameters in the path.
PATH_PARAMETERS_KEY = "monlight.path_parameters"
# Environ key that marks a request as handled by an outer instance of this middleware.
_INSTRUMENTED_KEY = "monlight.seen"


class MonlightMiddleware:
    """WSGI middleware that records request metrics and reports unhandled exceptions.

    Requests are recorded in `http_requests_total` and `http_request_duration_seconds` with the labels `method`,
    `endpoint` and `status`. The label `endpoint` is the value that the application stores in
    `environ["monlight.path_template"]`, or `(unmatched)`. The duration ends with the last byte of the response.

    Args:
        app: WSGI application to wrap.
        metrics_client: Client for request metrics; None records no metrics. Default: None.
        error_client: Client for reports; None reports no exceptions. Default: None.
    """

    def __init__(
        self, app: WSGIApp, metrics_client: MetricsClient | None = None, error_client: ErrorClient | None = None
    ) -> None:
        self.app = app
        self.metrics_client = metrics_client
        self.error_client = error_client

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if _INSTRUMENTED_KEY in environ:
            return self.app(environ, start_response)
        environ[_INSTRUMENTED_KEY] = True
        request = _RequestRecorder(environ, start_response, self.metrics_client, self.error_client)
        with _context.request_scope(lambda: describe_request(environ)) as request.scope:
            try:
                body = self.app(environ, request.start_response)
            except BaseException as error:
                request.record_failure(error)
                raise
        if _must_not_be_wrapped(body, environ):
            request.record()
            return body
        return _StreamingBody(body, request)


class _RequestRecorder:
    """Recorder of the status, duration and exception of one request."""

    def __init__(
        self,
        environ: Environ,
        start_response: StartResponse,
        metrics: MetricsClient | None,
        errors: ErrorClient | None,
    ) -> None:
        self._environ = environ
        self._start_response = start_response
        self._metrics = metrics
        self._errors = errors
        self._status: int | None = None
        self._start = perf_counter()
        # User and tags, for a report of an exception that occurs while the response is sent.
        self.scope = _scope.current_scope()

    def start_response(self, status: str, *args: Any, **kwargs: Any) -> Callable[[bytes], object]:
        """Stores the status and calls the server's `start_response`."""
        self._store_status(status)
        return self._start_response(status, *args, **kwargs)

    @never_raise(None)
    def _store_status(self, status: str) -> None:
        self._status = int(status[:3])

    @never_raise(None)
    def record_failure(self, error: BaseException) -> None:
        """Records the request and reports the exception that ended it."""
        self.record()
        if self._errors is not None:
            with _scope.activated(self.scope):
                self._errors._report_failure(error, "middleware", describe_request(self._environ))

    @never_raise(None)
    def record(self) -> None:
        """Records the request once, with status 500 if the application has not started a response."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            duration_s = perf_counter() - self._start
            endpoint = str(self._environ.get(PATH_TEMPLATE_KEY, UNMATCHED))
            method = str(self._environ.get("REQUEST_METHOD"))
            record_request(metrics, method, endpoint, self._status or 500, duration_s)


def _must_not_be_wrapped(body: Iterable[bytes], environ: Environ) -> bool:
    """Whether the server needs the original body: it reads the length of a list, and sends a wrapped file itself."""
    file_wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(body, (list, tuple)) or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper))


class _StreamingBody:
    """Wrapper of a response body that is generated while it is sent; records the request when it is closed."""

    def __init__(self, body: Iterable[bytes], request: _RequestRecorder) -> None:
        self._body = body
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except GeneratorExit:
            # The client closed the connection.
            raise
        except BaseException as error:
            self._request.record_failure(error)
            raise

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._request.record()


def describe_request(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `request_context` of a request, for a report."""
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
    }
    return {
        "request_url": request_uri(dict(environ)),
        "request_method": environ.get("REQUEST_METHOD"),
        "request_headers": headers,
        "client_address": environ.get("REMOTE_ADDR"),
        "path_parameters": environ.get(PATH_PARAMETERS_KEY),
    }
