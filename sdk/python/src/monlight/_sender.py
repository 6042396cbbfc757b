"""Background sender for one service: sends payloads in order and retries each until it is delivered or rejected."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from time import monotonic, sleep

from monlight import _lifecycle
from monlight._backoff import Backoff
from monlight._safety import is_sending, log_debug, log_warning, never_raise
from monlight._transport import DeliveryResult, Outcome, Payload, Transport

# An idle thread exits after this time; the next report starts a new one.
IDLE_TIMEOUT_S = 10.0
# A payload that was answered with status 500 this many times is dropped, because the payload itself may be the cause.
SERVER_ERRORS_MAX = 5


class FlushMode(Enum):
    """Treatment of the retry delay in `Sender.drain`."""

    NO_WAIT = "returns during a delay"
    AT_EXIT = "makes one attempt despite the backoff after an earlier failure; waits only if the service requested it"
    WAIT = "waits for every delay"


class Sender:
    """Sends payloads to a service from a background thread.

    Args:
        transport: Connection to the service.
        next_payload: Returns the next payload to send, or None if there is none.
        on_dropped: Called with the number of items that will never be delivered.
        interval_s: Seconds between two calls of `next_payload`, until `stop`. None calls it only after `wake`, and ends
            the thread when it is idle.
    """

    def __init__(
        self,
        transport: Transport,
        next_payload: Callable[[], Payload | None],
        on_dropped: Callable[[int], None],
        interval_s: float | None = None,
    ) -> None:
        self._transport = transport
        self._next_payload = next_payload
        self._on_dropped = on_dropped
        self._interval_s = interval_s
        self.reset()

    def reset(self) -> None:
        """Resets all state, for use in a forked child: the thread, connection and payloads belong to the parent, and
        threads that do not exist in the child may hold the locks."""
        self._transport.reset()
        self._unsent: deque[Payload] = deque()
        self._backoff = Backoff()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.RLock()
        self._drain_lock = threading.Lock()
        # Held during each request, and by the forking thread during a fork.
        self._request_lock = threading.Lock()
        self._forking_thread_id: int | None = None
        self._wake_event = threading.Event()
        self._is_stopped = False

    def pause_for_fork(self, deadline: float) -> None:
        """Waits until no request is in flight or the deadline has passed, then blocks new requests."""
        if self._request_lock.acquire(timeout=max(0.0, deadline - monotonic())):
            self._forking_thread_id = threading.get_ident()

    def resume_after_fork(self) -> None:
        """Allows requests again, if this thread blocked them."""
        if self._forking_thread_id == threading.get_ident():
            self._forking_thread_id = None
            self._request_lock.release()

    @property
    def is_running(self) -> bool:
        """Whether the background thread exists."""
        return self._thread is not None

    def wake(self) -> None:
        """Makes the thread check for payloads now. Starts the thread if necessary."""
        self._wake_event.set()
        if self._thread is not None:
            return
        self.start()

    def start(self) -> None:
        """Starts the background thread unless it is running."""
        with self._thread_lock:
            self._is_stopped = False
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="monlight", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                # The thread limit is reached or the interpreter is shutting down: the flush at exit sends pending data.
                self._thread = None
        _lifecycle.register_exit_hooks()

    def stop(self) -> None:
        """Requests the thread to end, without waiting for it."""
        self._is_stopped = True
        self._wake_event.set()

    def _run(self) -> None:
        while True:
            self._wake_event.wait(self._wait_timeout_s())
            was_woken = self._wake_event.is_set()
            self._wake_event.clear()
            is_empty = self.drain(FlushMode.NO_WAIT)
            with self._thread_lock:
                is_idle = self._interval_s is None and is_empty and not was_woken and not self._wake_event.is_set()
                if self._is_stopped or is_idle:
                    self._thread = None
                    break
        if self._wake_event.is_set() and not self._is_stopped:
            # `wake` was called just before `_thread` was cleared, so it did not start a new thread.
            self.start()
        self._close_connection(is_blocking=True)

    def _wait_timeout_s(self) -> float:
        delay_s = self._backoff.delay_s(monotonic())
        if self._unsent and delay_s > 0:
            return delay_s
        return IDLE_TIMEOUT_S if self._interval_s is None else self._interval_s

    def drain_at_exit(self, deadline: float) -> None:
        """Sends all payloads before the client or the process ends, and closes the connection."""
        self.drain(FlushMode.AT_EXIT, deadline)
        self._close_connection()

    @never_raise(False)
    def drain(self, mode: FlushMode, deadline: float | None = None) -> bool:
        """Sends payloads until none is left, a delay begins that `mode` does not wait for, or the deadline passes.

        Args:
            mode: Treatment of the retry delay.
            deadline: Value of the monotonic clock; None for no deadline.

        Returns:
            Whether no payload is left.
        """
        if is_sending():
            # A log handler of the application calls flush when it receives a record logged by this request.
            return False
        lock_timeout_s = -1.0 if deadline is None else max(0.0, deadline - monotonic())
        if not self._drain_lock.acquire(timeout=lock_timeout_s):
            return False
        try:
            return self._drain(mode, deadline)
        finally:
            self._drain_lock.release()

    def _drain(self, mode: FlushMode, deadline: float | None) -> bool:
        has_failed = False
        while True:
            if not self._unsent:
                payload = self._next_payload()
                if payload is None:
                    return True
                self._unsent.append(payload)
            now = monotonic()
            if deadline is not None and now >= deadline:
                return False
            delay_s = self._backoff.delay_s(now)
            if delay_s > 0:
                is_requested = self._backoff.server_requested_delay
                should_wait = mode is FlushMode.WAIT or (mode is FlushMode.AT_EXIT and is_requested)
                if should_wait and deadline is not None and now + delay_s < deadline:
                    sleep(delay_s)
                    continue
                if mode is not FlushMode.AT_EXIT or is_requested or has_failed:
                    return False
            has_failed |= not self._send(self._unsent[0], deadline)

    def _send(self, payload: Payload, deadline: float | None) -> bool:
        """Sends a payload. Returns False if it must be retried, True if it was delivered or dropped."""
        with self._request_lock:
            result = self._transport.post(payload, None if deadline is None else deadline - monotonic())
        payload.server_errors += result.status == 500
        if result.outcome is Outcome.RETRY and payload.server_errors < SERVER_ERRORS_MAX:
            self._backoff.record_failure(monotonic(), result.retry_after_s)
            log_warning(f"monlight: sending to {payload.path} failed: {result.reason}; will retry")
            return False
        self._backoff.reset()
        self._unsent.popleft()
        if result.outcome is not Outcome.DELIVERED:
            self._handle_rejection(payload, result)
        elif '"adjusted"' in result.reason:
            log_debug(f"monlight: {payload.path} accepted {payload.excerpt()} with changes: {result.reason}")
        return True

    def _handle_rejection(self, payload: Payload, result: DeliveryResult) -> None:
        """Splits a payload that is too large (status 413), and drops any other."""
        if result.status == 413 and len(payload.items) > 1:
            self._unsent.extendleft(reversed(payload.split()))
            return
        items = len(payload.items)
        self._on_dropped(items)
        log_warning(f"monlight: sending to {payload.path} failed: {result.reason}; {items} item(s) dropped")
        log_debug(f"monlight: dropped: {payload.excerpt()}")

    def _close_connection(self, *, is_blocking: bool = False) -> None:
        """Closes the connection, unless another thread is sending and `is_blocking` is not set.

        The next payload opens a new connection.
        """
        if self._drain_lock.acquire(blocking=is_blocking):
            try:
                self._transport.close()
            finally:
                self._drain_lock.release()
