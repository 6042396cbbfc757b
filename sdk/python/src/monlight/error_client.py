"""Sends exceptions to the error tracker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from time import monotonic, time
from typing import Any

from monlight import _lifecycle, _once, _report
from monlight._clean import clean_text
from monlight._context import current_request
from monlight._guard import harmless, warn
from monlight._report import Level
from monlight._secrets import SECRET_HEADERS
from monlight._sender import Patience, Sender
from monlight._transport import Parcel, Transport

# What waits while the tracker cannot be reached. Later reports are left out: the first ones tell what went wrong.
QUEUE_REPORTS_MAX = 1_000
QUEUE_BYTES_MAX = 8_000_000
NAME_CHARS_MAX = 100


class ErrorClient:
    """Reports exceptions from a background thread, each exactly once, also when the tracker is away for a while.

    No call raises, and none but `flush` waits for the network. At most 1,000 reports and 8 MB wait; they are sent
    before the process ends, if that takes no longer than five seconds.

    Args:
        base_url: where the tracker is, as `http://localhost:5010`.
        api_key: a key with the scope `ingest`.
        project: 1-100 characters.
        timeout: seconds that each step of a request may take.
        excluded_headers: request headers to leave out besides those that carry secrets.
        environment: as `staging`; the tracker takes `prod` where there is none.
        release: as `1.4.2` or a commit.
        include_locals: whether to report the variables of the innermost five frames too.
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
    ) -> None:
        self.base_url = str(base_url or "").rstrip("/")
        self.api_key = str(api_key or "")
        self.project = _short(project) or "default"
        self.timeout = timeout
        self.environment = _short(environment)
        self.release = _short(release)
        self.include_locals = include_locals
        self._excluded_headers = SECRET_HEADERS | {str(name).lower() for name in excluded_headers or ()}
        self._dropped = 0
        self._begin_queue()
        self._sender = Sender(Transport(self.base_url, self.api_key, timeout), self._take, self._count_dropped)
        _lifecycle.adopt(self)

    @property
    def dropped(self) -> int:
        """How many reports were given up in this process: there was no room, or the tracker refused them."""
        return self._dropped

    async def report_error(self, exception: BaseException, request_context: dict[str, Any] | None = None) -> None:
        """As `report_error_sync`. It does not wait for the tracker either."""
        self.report_error_sync(exception, request_context)

    @harmless(None)
    def report_error_sync(self, exception: BaseException, request_context: dict[str, Any] | None = None) -> None:
        """Reports an exception.

        Args:
            exception: with its traceback, causes, contexts and, of a group, its members.
            request_context: what is known of the request, of `request_url`, `request_method`, `request_headers`,
                `user_id` and `extra`. Secrets in the URL, the headers and `extra` are removed by their names.
        """
        _once.mark(exception, "call")
        self._report(exception, request_context)

    @harmless(None)
    def _report_once(
        self,
        exception: BaseException,
        source: _once.Source,
        request_context: Mapping[str, Any] | None = None,
        level: Level | None = None,
    ) -> None:
        """Reports an exception unless another part of this package has done so."""
        if _once.is_reported(exception, source):
            return
        _once.mark(exception, source)
        self._report(exception, request_context, level)

    def _report(
        self, exception: BaseException, request_context: Mapping[str, Any] | None, level: Level | None = None
    ) -> None:
        described = _report.describe_exception(exception, include_locals=self.include_locals)
        self._put(described, request_context, level)

    def _put(
        self, described: Mapping[str, Any], request_context: Mapping[str, Any] | None, level: Level | None
    ) -> None:
        body = _report.build(
            described,
            {**current_request(), **(request_context or {})},
            project=self.project,
            environment=self.environment,
            release=self.release,
            level=level,
            excluded_headers=self._excluded_headers,
            at=time(),
        )
        with self._lock:
            if len(self._queue) >= QUEUE_REPORTS_MAX or self._queued_bytes + len(body) > QUEUE_BYTES_MAX:
                self._dropped += 1
                warn("Monlight leaves out reports: too many wait for the error tracker")
                return
            self._queue.append(Parcel("/api/errors", [body], is_list=False))
            self._queued_bytes += len(body)
        self._sender.wake()

    @harmless(False)
    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until everything was sent, at most `timeout` seconds; whether it was."""
        return self._sender.drain(Patience.FULL, monotonic() + timeout)

    def _flush_last(self, deadline: float) -> None:
        self._sender.drain_last(deadline)

    def _hold_still(self, deadline: float) -> None:
        self._sender.hold_still(deadline)

    def _go_on(self) -> None:
        self._sender.go_on()

    def _forget(self) -> None:
        self._begin_queue()
        self._sender.forget()

    def _begin_queue(self) -> None:
        self._lock = threading.RLock()
        self._queue: deque[Parcel] = deque()
        self._queued_bytes = 0

    def _take(self) -> Parcel | None:
        with self._lock:
            if not self._queue:
                return None
            parcel = self._queue.popleft()
            self._queued_bytes -= len(parcel.items[0])
            return parcel

    def _count_dropped(self, reports: int) -> None:
        self._dropped += reports


def _short(name: object) -> str | None:
    return None if name is None else clean_text(str(name), NAME_CHARS_MAX)
