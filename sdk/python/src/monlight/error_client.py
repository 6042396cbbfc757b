"""Client for the error tracker."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from time import monotonic, time
from typing import Any

from monlight import _dedupe, _lifecycle, _report
from monlight._context import current_request_context
from monlight._report import ErrorFields, Level, ReportSettings
from monlight._safety import enable_debug, is_debug_enabled, log_warning, never_raise
from monlight._scrub import secrets_in_environment
from monlight._secrets import SECRET_HEADERS
from monlight._sender import FlushMode, Sender
from monlight._serialize import sanitize_name
from monlight._transport import Payload, Transport

# Limits of the queue while the tracker is unreachable. Later reports are dropped: the first ones show the cause.
QUEUE_REPORTS_MAX = 1_000
QUEUE_BYTES_MAX = 8_000_000
NAME_CHARS_MAX = 100


class ErrorClient:
    """Reports exceptions to the error tracker from a background thread.

    No report is counted twice, even if the tracker is unreachable for a while. No method raises an exception, and only
    `flush` waits for the network. The queue holds at most 1,000 reports and 8 MB. When the process exits, pending
    reports are sent for at most five seconds.

    Args:
        base_url: Base URL of the error tracker, for example `http://localhost:5010`.
        api_key: API key with the scope `ingest`.
        project: Name of the project, 1-100 characters. Default: `default`.
        timeout: Maximum seconds for each step of a request (connect, send, receive). Default: 5.
        excluded_headers: Names of request headers to leave out of reports, in addition to headers with secrets.
            Default: none.
        environment: Name of the environment, for example `staging`, at most 100 characters. The tracker uses `prod` if
            it is None. Default: None.
        release: Version of the application, for example `1.4.2` or a commit hash, at most 100 characters.
            Default: None.
        include_locals: Whether to report the local variables of the innermost five frames. Default: False.
        debug: Whether to print to standard error what the tracker rejected or changed, and why. Applies to all clients
            of the process. Default: False.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        project: str = "default",
        timeout: float = 5.0,
        excluded_headers: Iterable[str] | None = None,
        *,
        environment: str | None = None,
        release: str | None = None,
        include_locals: bool = False,
        debug: bool = False,
    ) -> None:
        if debug:
            enable_debug()
        self.base_url = str(base_url or "").rstrip("/")
        self.api_key = str(api_key or "")
        self.project = sanitize_name(project, NAME_CHARS_MAX) or "default"
        self.timeout = timeout
        self.environment = sanitize_name(environment, NAME_CHARS_MAX)
        self.release = sanitize_name(release, NAME_CHARS_MAX)
        self.include_locals = include_locals
        self._settings = ReportSettings(
            project=self.project,
            environment=self.environment,
            release=self.release,
            excluded_headers=SECRET_HEADERS | {str(name).lower() for name in excluded_headers or ()},
            known_secrets=secrets_in_environment({**os.environ, "MONLIGHT_API_KEY": self.api_key}).values(),
        )
        self._dropped = 0
        self._dropped_before_flush = 0
        self._reset_queue()
        self._sender = Sender(Transport(self.base_url, self.api_key, timeout), self._next_payload, self._count_dropped)
        _lifecycle.register_client(self)

    def _arguments(self) -> dict[str, Any]:
        """Returns arguments with which a child process creates the same client."""
        return {
            "base_url": self.base_url,
            "api_key": self.api_key,
            "project": self.project,
            "timeout": self.timeout,
            "excluded_headers": sorted(self._settings.excluded_headers),
            "environment": self.environment,
            "release": self.release,
            "include_locals": self.include_locals,
            "debug": is_debug_enabled(),
        }

    @property
    def dropped(self) -> int:
        """Number of reports dropped in this process, because the queue was full or the tracker rejected them."""
        return self._dropped

    @never_raise(None)
    def capture_exception(self, exception: BaseException, request_context: dict[str, Any] | None = None) -> None:
        """Queues a report of an exception and returns immediately.

        The report contains the traceback, the causes and contexts, and the members of an exception group.

        Args:
            exception: Exception to report.
            request_context: Context of the request, with any of the keys `request_url`, `request_method`,
                `request_headers`, `user_id` and `extra`. Values in the URL, the headers and `extra` that are named like
                secrets are removed. Missing keys are taken from the request being handled, if a Monlight middleware is
                installed. Default: None.
        """
        _dedupe.mark_reported(exception, "call")
        self._report(exception, request_context)

    def report_error_sync(self, exception: BaseException, request_context: dict[str, Any] | None = None) -> None:
        """Alias of `capture_exception`, for compatibility with `monlight` 0.3."""
        self.capture_exception(exception, request_context)

    async def report_error(self, exception: BaseException, request_context: dict[str, Any] | None = None) -> None:
        """Calls `capture_exception`, for compatibility with `monlight` 0.3. Does not wait for the tracker."""
        self.capture_exception(exception, request_context)

    @never_raise(None)
    def _report_once(
        self,
        exception: BaseException,
        source: _dedupe.ReportSource,
        request_context: Mapping[str, Any] | None = None,
        level: Level | None = None,
    ) -> None:
        """Reports an exception unless another part of this package has reported it."""
        if _dedupe.is_reported_by_other(exception, source):
            return
        _dedupe.mark_reported(exception, source)
        self._report(exception, request_context, level)

    def _report_failure(
        self, exception: BaseException, source: _dedupe.ReportSource, request_context: Mapping[str, Any] | None = None
    ) -> None:
        """Reports an exception that ended a request, unless it is a cancellation, an interrupt or a normal exit.

        A server aborts a request after a timeout with the exit code 1.
        """
        if isinstance(exception, Exception) or (isinstance(exception, SystemExit) and exception.code not in (None, 0)):
            self._report_once(exception, source, request_context)

    def _report(
        self, exception: BaseException, request_context: Mapping[str, Any] | None, level: Level | None = None
    ) -> None:
        error = _report.describe_exception(exception, include_locals=self.include_locals)
        self._enqueue(error, request_context, level)

    def _enqueue(self, error: ErrorFields, request_context: Mapping[str, Any] | None, level: Level | None) -> None:
        context = {**current_request_context(), **(request_context or {})}
        body = _report.build_report(error, context, self._settings, level, time())
        with self._lock:
            if len(self._queue) >= QUEUE_REPORTS_MAX or self._queued_bytes + len(body) > QUEUE_BYTES_MAX:
                self._dropped += 1
                log_warning(
                    "monlight: failed to queue a report: the queue is full; reports are dropped until it drains"
                )
                return
            self._queue.append(Payload("/api/errors", [body], is_list=False))
            self._queued_bytes += len(body)
        self._sender.wake()

    @never_raise(False)
    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until all queued reports have been sent.

        Args:
            timeout: Maximum seconds to wait. Default: 5.

        Returns:
            Whether the tracker accepted all reports since the previous call: none is left, and none was dropped.
        """
        is_empty = self._sender.drain(FlushMode.WAIT, monotonic() + timeout)
        was_dropped = self._dropped > self._dropped_before_flush
        self._dropped_before_flush = self._dropped
        return is_empty and not was_dropped

    def _flush_at_exit(self, deadline: float) -> None:
        self._sender.drain_at_exit(deadline)

    def _pause_for_fork(self, deadline: float) -> None:
        self._sender.pause_for_fork(deadline)

    def _resume_after_fork(self) -> None:
        self._sender.resume_after_fork()

    def _reset_in_child(self) -> None:
        self._reset_queue()
        self._sender.reset()

    def _reset_queue(self) -> None:
        self._lock = threading.RLock()
        self._queue: deque[Payload] = deque()
        self._queued_bytes = 0

    def _next_payload(self) -> Payload | None:
        with self._lock:
            if not self._queue:
                return None
            payload = self._queue.popleft()
            self._queued_bytes -= len(payload.items[0])
            return payload

    def _count_dropped(self, reports: int) -> None:
        self._dropped += reports
