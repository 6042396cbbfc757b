"""Client for the error tracker."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic, time
from types import TracebackType
from typing import Any, TypeAlias

from monlight import _dedupe, _lifecycle, _report
from monlight._before_send import BeforeSend, Hint, apply_before_send
from monlight._context import current_request_context
from monlight._report import ErrorFields, ReportDetails, ReportSettings, level_named
from monlight._request import user_identifier
from monlight._safety import enable_debug, is_debug_enabled, log_warning, never_raise
from monlight._scope import current_scope, tag_texts
from monlight._scrub import Scrubber, secrets_in_environment
from monlight._secrets import SECRET_HEADERS
from monlight._sender import FlushMode, Sender
from monlight._serialize import sanitize_name
from monlight._transport import Payload, Transport

# Limits of the queue while the tracker is unreachable. Later reports are dropped: the first ones show the cause.
QUEUE_REPORTS_MAX = 1_000
QUEUE_BYTES_MAX = 8_000_000
NAME_CHARS_MAX = 100

# Result of `sys.exc_info()`.
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


NO_DETAILS = ReportDetails()


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
        before_send: Function that receives each report, a dictionary with the fields of `POST /api/errors`, and a hint
            with `exc_info` or `log_record`. Returns the report, changed or not, or None to drop it. The report is sent
            unchanged if it raises. Runs in the thread that reports. Default: None.
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
        before_send: BeforeSend | None = None,
    ) -> None:
        if debug:
            enable_debug()
        if before_send is not None and not callable(before_send):
            log_warning("monlight: invalid before_send: it is not a function; reports are sent unchanged")
            before_send = None
        self.before_send = before_send
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
        """Returns arguments with which a child process creates the same client, except for `before_send`."""
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
    def capture_exception(
        self,
        exception: BaseException | ExcInfo | None = None,
        request_context: dict[str, Any] | None = None,
        *,
        level: str | None = None,
        fingerprint: Sequence[str] | None = None,
        tags: Mapping[str, object] | None = None,
        user: object = None,
        extras: Mapping[str, object] | None = None,
        contexts: Mapping[str, object] | None = None,
    ) -> None:
        """Queues a report of an exception and returns immediately.

        The report contains the traceback, the causes and contexts, and the members of an exception group.

        Args:
            exception: Exception to report, or the result of `sys.exc_info()`. Default: the exception being handled.
            request_context: Context of the request, with any of the keys `request_url`, `request_method`,
                `request_headers`, `user_id` and `extra`. Values in the URL, the headers and `extra` that are named like
                secrets are removed. Missing keys are taken from the request being handled, if a Monlight middleware is
                installed. Default: None.
            level, fingerprint, tags, user, extras, contexts: See `monlight.capture_exception`.
        """
        error = _exception_in(exception)
        if error is None:
            log_warning("monlight: capture_exception failed: no exception is being handled; nothing is reported")
            return
        _dedupe.mark_reported(error, "call")
        context = _with_arguments(request_context, user, extras, contexts)
        self._report(error, context, ReportDetails(level_named(level), fingerprint, tag_texts(tags)))

    @never_raise(None)
    def capture_message(
        self,
        message: str,
        level: str | None = None,
        *,
        fingerprint: Sequence[str] | None = None,
        tags: Mapping[str, object] | None = None,
        user: object = None,
        extras: Mapping[str, object] | None = None,
        contexts: Mapping[str, object] | None = None,
    ) -> None:
        """Queues a report of a message, with the stack of the caller, and returns immediately.

        The type of the report is `Message`. Messages are grouped by the source line that calls this method.

        Args:
            message: Text of the message.
            level: Severity, such as `warning` or `fatal`. Default: `info`.
            fingerprint, tags, user, extras, contexts: See `monlight.capture_exception`.
        """
        self._report_message(
            message, level, 3, fingerprint=fingerprint, tags=tags, user=user, extras=extras, contexts=contexts
        )

    def _report_message(
        self,
        message: str,
        level: str | None,
        frames_to_skip: int,
        *,
        fingerprint: Sequence[str] | None,
        tags: Mapping[str, object] | None,
        user: object,
        extras: Mapping[str, object] | None,
        contexts: Mapping[str, object] | None,
    ) -> None:
        """Reports a message with the stack of the frame that is `frames_to_skip` above this method."""
        error = _report.describe_message(message, sys._getframe(frames_to_skip))
        details = ReportDetails(level_named(level) or "info", fingerprint, tag_texts(tags))
        self._enqueue(error, _with_arguments(None, user, extras, contexts), details, {})

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
        details: ReportDetails = NO_DETAILS,
        log_record: logging.LogRecord | None = None,
    ) -> None:
        """Reports an exception unless another part of this package has reported it."""
        if _dedupe.is_reported_by_other(exception, source):
            return
        _dedupe.mark_reported(exception, source)
        self._report(exception, request_context, details, log_record)

    def _report_failure(
        self, exception: BaseException, source: _dedupe.ReportSource, request_context: Mapping[str, Any] | None = None
    ) -> None:
        """Reports an exception that ended a request, unless it is a cancellation, an interrupt or a normal exit.

        A server aborts a request after a timeout with the exit code 1.
        """
        if isinstance(exception, Exception) or (isinstance(exception, SystemExit) and exception.code not in (None, 0)):
            self._report_once(exception, source, request_context)

    def _report(
        self,
        exception: BaseException,
        request_context: Mapping[str, Any] | None,
        details: ReportDetails,
        log_record: logging.LogRecord | None = None,
    ) -> None:
        error = _report.describe_exception(exception, include_locals=self.include_locals)
        hint: Hint = {"exc_info": _report.exc_info_of(exception)}
        if log_record is not None:
            hint["log_record"] = log_record
        self._enqueue(error, request_context, details, hint)

    def _enqueue(
        self, error: ErrorFields, request_context: Mapping[str, Any] | None, details: ReportDetails, hint: Hint
    ) -> None:
        scope = current_scope()
        user = {} if scope.user_id is None else {"user_id": scope.user_id}
        context = {**current_request_context(), **user, **(request_context or {})}
        details = ReportDetails(details.level, details.fingerprint, {**scope.tags, **details.tags})
        scrubber = Scrubber(self._settings.known_secrets)
        report = _report.build_report(error, context, self._settings, details, time(), scrubber)
        if self.before_send is not None:
            changed = apply_before_send(self.before_send, report, hint, scrubber)
            if changed is None:
                return
            report = changed
        self._enqueue_body(_report.encode_report(report))

    def _enqueue_body(self, body: bytes) -> None:
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


def _exception_in(exception: Any) -> BaseException | None:
    """Returns an exception, that of a result of `sys.exc_info()`, or the one being handled. Calls no method of it."""
    if exception is None:
        return sys.exc_info()[1]
    found: BaseException | None = exception[1] if issubclass(type(exception), tuple) else exception
    return found


def _with_arguments(
    request_context: Mapping[str, Any] | None,
    user: object,
    extras: Mapping[str, object] | None,
    contexts: Mapping[str, object] | None,
) -> dict[str, Any]:
    """Returns a request context with the arguments that a call passes besides it."""
    context = dict(request_context or {})
    if user is not None:
        context["user_id"] = user_identifier(user)
    if extras is not None or contexts is not None:
        members = [_members(context.get("extra")), _members(extras), {} if contexts is None else {"contexts": contexts}]
        context["extra"] = {name: value for part in members for name, value in part.items()}
    return context


def _members(extra: Any) -> dict[str, Any]:
    if issubclass(type(extra), dict):
        return dict(dict.items(extra))
    return {} if extra is None else {"value": extra}
