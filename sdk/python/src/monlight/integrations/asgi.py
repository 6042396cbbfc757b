"""Middleware for any ASGI application."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

from monlight import _context, _lifecycle
from monlight._guard import harmless
from monlight.error_client import ErrorClient
from monlight.integrations._requests import STATUS_GONE, UNMATCHED, count_request
from monlight.metrics_client import MetricsClient

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where a scope says that an outer middleware of this kind is at it.
_SEEN = "monlight"


class MonlightMiddleware:
    """Counts requests, reports what the application raises, and sends the rest when the server shuts down.

    Requests become `http_requests_total` and `http_request_duration_seconds` with the labels `method`, `endpoint` (the
    path's template, as `/items/{id}`) and `status`. What is measured ends with the last byte of the answer, before
    background tasks. A server that stops by a signal ends without `atexit`; so the end of the ASGI lifespan is where
    everything of this process is sent, also for applications that do not know about it, as Django's.
    """

    def __init__(
        self, app: ASGIApp, metrics_client: MetricsClient | None = None, error_client: ErrorClient | None = None
    ) -> None:
        self.app = app
        self.metrics_client = metrics_client
        self.error_client = error_client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(self.app, receive, send).run(scope)
            return
        if scope["type"] not in ("http", "websocket") or _SEEN in scope:
            await self.app(scope, receive, send)
            return
        scope[_SEEN] = True
        exchange = _Exchange(scope, send, self.metrics_client)
        with _context.request(lambda: describe_request(scope)):
            try:
                await self.app(scope, receive, exchange.send)
            except Exception as error:
                exchange.ended_with(500)
                if self.error_client is not None:
                    self.error_client._report_once(error, "middleware")
                raise
            except BaseException:
                exchange.ended_with(STATUS_GONE)
                raise
            exchange.ended_with(500)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, metrics: MetricsClient | None) -> None:
        self._scope = scope
        self._send = send
        self._metrics = metrics if scope["type"] == "http" else None
        self._root_path = str(scope.get("root_path", ""))
        self._status: int | None = None
        self._start = perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message.get("status")
        await self._send(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        if is_last or message["type"] == "http.response.pathsend":
            self.ended_with(500)

    @harmless(None)
    def ended_with(self, status: int) -> None:
        """Counts the request, once; `status` is what it is worth where no answer has begun."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            duration_s = perf_counter() - self._start
            endpoint = path_template(self._scope, self._root_path)
            count_request(metrics, str(self._scope.get("method")), endpoint, self._status or status, duration_s)


def path_template(scope: Mapping[str, Any], root_path: str) -> str:
    """The template of the route that was taken. `root_path` is that of the scope before any routing."""
    path = getattr(scope.get("route"), "path", None)
    parameters: Mapping[str, Any] = scope.get("path_params") or {}
    # What mounts have taken off the path lies in the root path, as it was sent.
    mounted = str(scope.get("root_path", "")).removeprefix(root_path)
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return UNMATCHED
    if not (inspect.isroutine(endpoint) or isinstance(endpoint, (type, functools.partial))):
        # A mounted application that has no routes, such as static files, or none for this path.
        return _generalise(mounted, parameters) + "/{path}"
    if isinstance(path, str):
        return _generalise(mounted, parameters) + path
    # Starlette before 0.49 says which function was found, and not by which route.
    return _generalise(str(scope.get("path", "")), parameters)


def _generalise(path: str, parameters: Mapping[str, Any]) -> str:
    names = {str(value): f"{{{name}}}" for name, value in parameters.items()}
    return "/".join(names.get(segment, segment) for segment in path.split("/"))


def describe_request(scope: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of the request, as `request_context`."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
    server = scope.get("server") or ("", None)
    host = headers.get("host") or (f"{server[0]}:{server[1]}" if server[1] else server[0])
    query = scope.get("query_string", b"").decode("latin-1")
    url = f"{scope.get('scheme', 'http')}://{host}{scope.get('path', '')}" + (f"?{query}" if query else "")
    method = scope.get("method", "WEBSOCKET")
    return {"request_url": url, "request_method": method, "request_headers": headers}


class _Lifespan:
    """Passes the messages of a server's start and end on, and flushes before the end is confirmed."""

    def __init__(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._is_known = False

    async def run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self._receive_known, self._send_flushed)
        except Exception:
            if self._is_known:
                raise
            # The application has refused at first sight: it does not know about lifespans.
            await self._live()

    async def _receive_known(self) -> Message:
        self._is_known = True
        return await self._receive()

    async def _send_flushed(self, message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            # It blocks: requests are over, and not every event loop here is asyncio's.
            _lifecycle.flush_all()
        await self._send(message)

    async def _live(self) -> None:
        while True:
            event = (await self._receive())["type"].removeprefix("lifespan.")
            await self._send_flushed({"type": f"lifespan.{event}.complete"})
            if event == "shutdown":
                return
