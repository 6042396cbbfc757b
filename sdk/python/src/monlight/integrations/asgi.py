"""Middleware for ASGI applications."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

from monlight import _context, _lifecycle
from monlight._safety import never_raise
from monlight.error_client import ErrorClient
from monlight.integrations._request_metrics import STATUS_CLIENT_CLOSED, UNMATCHED, record_request
from monlight.metrics_client import MetricsClient

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# Scope key that marks a request as handled by an outer instance of this middleware.
_INSTRUMENTED_KEY = "monlight"


class MonlightMiddleware:
    """ASGI middleware that records request metrics and reports unhandled exceptions.

    Requests are recorded in `http_requests_total` and `http_request_duration_seconds` with the labels `method`,
    `endpoint` (the path template, for example `/items/{id}`) and `status`. The duration ends with the last byte of the
    response, before background tasks run.

    At the end of the ASGI lifespan, the middleware sends all pending data of this process, because a server that is
    stopped by a signal does not run `atexit`. This also works for applications without lifespan support, such as
    Django.

    Args:
        app: ASGI application to wrap.
        metrics_client: Client for request metrics; None records no metrics. Default: None.
        error_client: Client for reports; None reports no exceptions. Default: None.
    """

    def __init__(
        self, app: ASGIApp, metrics_client: MetricsClient | None = None, error_client: ErrorClient | None = None
    ) -> None:
        self.app = app
        self.metrics_client = metrics_client
        self.error_client = error_client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(self.app, receive, send, self.error_client).run(scope)
            return
        if scope["type"] not in ("http", "websocket") or _INSTRUMENTED_KEY in scope:
            await self.app(scope, receive, send)
            return
        scope[_INSTRUMENTED_KEY] = True
        request = _RequestRecorder(scope, send, self.metrics_client)
        with _context.request_scope(lambda: describe_request(scope)):
            try:
                await self.app(scope, receive, request.send)
            except BaseException as error:
                request.record(500 if isinstance(error, Exception) else STATUS_CLIENT_CLOSED)
                if self.error_client is not None:
                    self.error_client._report_failure(error, "middleware")
                raise
            request.record(500)


class _RequestRecorder:
    """Recorder of the status and duration of one request."""

    def __init__(self, scope: Scope, send: Send, metrics: MetricsClient | None) -> None:
        self._scope = scope
        self._send = send
        self._metrics = metrics if scope["type"] == "http" else None
        self._root_path = str(scope.get("root_path", ""))
        self._status: int | None = None
        self._start = perf_counter()

    async def send(self, message: Message) -> None:
        """Forwards a message to the server, and records the request after the last one."""
        if message["type"] == "http.response.start":
            self._status = message.get("status")
        await self._send(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        if is_last or message["type"] == "http.response.pathsend":
            self.record(500)

    @never_raise(None)
    def record(self, default_status: int) -> None:
        """Records the request once, with `default_status` if the application has not started a response."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            duration_s = perf_counter() - self._start
            endpoint = path_template(self._scope, self._root_path)
            record_request(
                metrics, str(self._scope.get("method")), endpoint, self._status or default_status, duration_s
            )


def path_template(scope: Mapping[str, Any], root_path: str) -> str:
    """Returns the path template of the matched route.

    Args:
        scope: Scope after routing.
        root_path: `root_path` of the scope before routing.
    """
    path = getattr(scope.get("route"), "path", None)
    parameters: Mapping[str, Any] = scope.get("path_params") or {}
    # Each mount moves its prefix of the path to the end of root_path, with parameter values instead of names.
    mount_path = str(scope.get("root_path", "")).removeprefix(root_path)
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return UNMATCHED
    if not (inspect.isroutine(endpoint) or isinstance(endpoint, (type, functools.partial))):
        # A mounted application without routes, such as static files, or without a route for this path.
        return _restore_parameter_names(mount_path, parameters) + "/{path}"
    if isinstance(path, str):
        return _restore_parameter_names(mount_path, parameters) + path
    # Starlette before 0.49 sets the endpoint in the scope, but not the route.
    return _restore_parameter_names(str(scope.get("path", "")), parameters)


def _restore_parameter_names(path: str, parameters: Mapping[str, Any]) -> str:
    """Replaces each path segment that equals a parameter's value with the parameter's name in braces."""
    placeholders = {str(value): f"{{{name}}}" for name, value in parameters.items()}
    return "/".join(placeholders.get(segment, segment) for segment in path.split("/"))


def describe_request(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `request_context` of a request, for a report."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
    server = scope.get("server") or ("", None)
    client = scope.get("client") or (None,)
    host = headers.get("host") or (f"{server[0]}:{server[1]}" if server[1] else server[0])
    query = scope.get("query_string", b"").decode("latin-1")
    url = f"{scope.get('scheme', 'http')}://{host}{scope.get('path', '')}" + (f"?{query}" if query else "")
    method = scope.get("method", "WEBSOCKET")
    return {
        "request_url": url,
        "request_method": method,
        "request_headers": headers,
        "client_address": client[0],
        "path_parameters": scope.get("path_params"),
    }


class _Lifespan:
    """Proxy for the lifespan protocol that sends pending data before the server receives the shutdown confirmation.

    It reports an exception of the application's start or end.
    """

    def __init__(self, app: ASGIApp, receive: Receive, send: Send, errors: ErrorClient | None) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._errors = errors
        self._is_supported = False

    async def run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self._receive_event, self._flush_and_send)
        except Exception as error:
            if self._is_supported:
                # The start or the end of the application failed.
                if self._errors is not None:
                    self._errors._report_failure(error, "middleware")
                raise
            # The application raised before it received an event: it does not support the lifespan protocol.
            await self._confirm_events()

    async def _receive_event(self) -> Message:
        self._is_supported = True
        return await self._receive()

    async def _flush_and_send(self, message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            # Blocks the event loop on purpose: all requests are finished, and not every event loop is asyncio's.
            _lifecycle.flush_all_clients()
        await self._send(message)

    async def _confirm_events(self) -> None:
        """Confirms startup and shutdown to the server in place of the application."""
        while True:
            event = (await self._receive())["type"].removeprefix("lifespan.")
            await self._flush_and_send({"type": f"lifespan.{event}.complete"})
            if event == "shutdown":
                return
