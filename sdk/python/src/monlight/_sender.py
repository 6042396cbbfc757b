"""Sends parcels from a background thread, in order, each until it has arrived or was refused."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from time import monotonic, sleep

from monlight import _lifecycle
from monlight._guard import harmless, is_sending, warn
from monlight._pace import Pace
from monlight._transport import Answer, Fate, Parcel, Transport

# A thread that has had nothing to do for so long ends; the next report starts another one.
IDLE_S = 10.0
# A parcel that a service has failed to take so often, with a 500 each time, may be what it fails of.
TIMES_500_MAX = 5


class Patience(Enum):
    """What a caller of `drain` waits for."""

    NONE = "sends nothing while there is a pause"
    LAST = "makes one attempt in spite of a failure before, and waits for a service that has said how long"
    FULL = "waits out every pause"


class Sender:
    """Takes parcels from `take`, which answers None when there are none left, and brings them to a service.

    With `interval_s` the thread looks for parcels by itself, every so many seconds, until `stop`. Without, it looks
    when it is woken and ends when it is idle. `lost` is told how many items will never arrive.
    """

    def __init__(
        self,
        transport: Transport,
        take: Callable[[], Parcel | None],
        lost: Callable[[int], None],
        interval_s: float | None = None,
    ) -> None:
        self._transport = transport
        self._take = take
        self._lost = lost
        self._interval_s = interval_s
        self.forget()

    def forget(self) -> None:
        """Starts anew, as if there had been no thread, connection or parcel: where a process was forked, they are the
        parent's, and locks may be held by threads that do not exist here."""
        # Not closed: over TLS that would say good-bye on the parent's connection.
        self._transport = self._transport.anew()
        self._unsent: deque[Parcel] = deque()
        self._pace = Pace()
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._sending = threading.Lock()
        # Held for each request, and while a process is forked by the thread that forks it.
        self._posting = threading.Lock()
        self._forking: int | None = None
        self._woken = threading.Event()
        self._stopped = False

    def hold_still(self, deadline: float) -> None:
        if self._posting.acquire(timeout=max(0.0, deadline - monotonic())):
            self._forking = threading.get_ident()

    def go_on(self) -> None:
        if self._forking == threading.get_ident():
            self._forking = None
            self._posting.release()

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def wake(self) -> None:
        """Makes the thread look for parcels now, starting it if need be."""
        self._woken.set()
        if self._thread is not None:
            return
        self.start()

    def start(self) -> None:
        with self._starting:
            self._stopped = False
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="monlight", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                # No more threads, or the interpreter is ending: what is pending goes out at the end.
                self._thread = None
        _lifecycle.expect_end()

    def stop(self) -> None:
        """Lets the thread end, without waiting for it."""
        self._stopped = True
        self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.wait(self._wait_s())
            was_woken = self._woken.is_set()
            self._woken.clear()
            is_empty = self.drain(Patience.NONE)
            with self._starting:
                is_idle = self._interval_s is None and is_empty and not was_woken and not self._woken.is_set()
                if self._stopped or is_idle:
                    self._thread = None
                    break
        if self._woken.is_set() and not self._stopped:
            # Woken by somebody who still saw this thread.
            self.start()
        self._close()

    def _wait_s(self) -> float:
        pause_s = self._pace.pause_s(monotonic())
        if self._unsent and pause_s > 0:
            return pause_s
        return IDLE_S if self._interval_s is None else self._interval_s

    def drain_last(self, deadline: float) -> None:
        """Sends what there is before a client, or the process, ends."""
        self.drain(Patience.LAST, deadline)
        self._close()

    @harmless(False)
    def drain(self, patience: Patience, deadline: float | None = None) -> bool:
        """Sends until nothing is left (True), a pause is due that `patience` does not wait for, or the deadline, a
        moment of the monotonic clock."""
        if is_sending():
            # Somebody's log handler flushes when it sees a line that sending writes.
            return False
        left_s = -1.0 if deadline is None else max(0.0, deadline - monotonic())
        if not self._sending.acquire(timeout=left_s):
            return False
        try:
            return self._drain(patience, deadline)
        finally:
            self._sending.release()

    def _drain(self, patience: Patience, deadline: float | None) -> bool:
        has_failed = False
        while True:
            if not self._unsent:
                parcel = self._take()
                if parcel is None:
                    return True
                self._unsent.append(parcel)
            now = monotonic()
            if deadline is not None and now >= deadline:
                return False
            pause_s = self._pace.pause_s(now)
            if pause_s > 0:
                waits = patience is Patience.FULL or (patience is Patience.LAST and self._pace.is_told)
                if waits and deadline is not None and now + pause_s < deadline:
                    sleep(pause_s)
                    continue
                if patience is not Patience.LAST or self._pace.is_told or has_failed:
                    return False
            has_failed |= not self._send(self._unsent[0], deadline)

    def _send(self, parcel: Parcel, deadline: float | None) -> bool:
        """Whether the service has answered that it took the parcel, or never will."""
        with self._posting:
            answer = self._transport.post(parcel, None if deadline is None else deadline - monotonic())
        parcel.times_500 += answer.status == 500
        if answer.fate is Fate.LATER and parcel.times_500 < TIMES_500_MAX:
            self._pace.failed(monotonic(), answer.retry_after_s)
            warn(f"Monlight will try {parcel.path} again: {answer.reason}")
            return False
        self._pace.delivered()
        self._unsent.popleft()
        if answer.fate is not Fate.DELIVERED:
            self._refused(parcel, answer)
        return True

    def _refused(self, parcel: Parcel, answer: Answer) -> None:
        if answer.status == 413 and len(parcel.items) > 1:
            self._unsent.extendleft(reversed(parcel.halves()))
            return
        self._lost(len(parcel.items))
        warn(f"Monlight was refused by {parcel.path}: {answer.reason}")

    def _close(self) -> None:
        """Gives the connection back, unless somebody is sending. The next parcel makes another one."""
        if self._sending.acquire(blocking=False):
            try:
                self._transport.close()
            finally:
                self._sending.release()
