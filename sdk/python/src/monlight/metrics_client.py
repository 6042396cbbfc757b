"""Sends metrics to the metrics collector."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from monlight import _lifecycle
from monlight._clean import clean_text
from monlight._guard import harmless, warn
from monlight._points import Kind, PendingPoints
from monlight._sender import Sender
from monlight._transport import Parcel, Transport
from monlight.timing import Timer

# The collector's limits: points in a request, and bytes, of which it takes 524,288.
BATCH_POINTS_MAX = 1_000
BATCH_BYTES_MAX = 450_000
PROJECT_CHARS_MAX = 100
FLUSH_INTERVAL_MIN_S = 0.01


class MetricsClient:
    """Counts and measures, and sends what has gathered every `flush_interval` seconds from a background thread.

    No call raises, and none but `flush` and `shutdown` waits for the network. Values that do not arrive are kept, at
    most 100,000 of them, and sent again without counting twice.

    Args:
        base_url: where the collector is, as `http://localhost:5012`.
        api_key: a key with the scope `ingest`.
        flush_interval: seconds between two flushes, at least 0.01.
        timeout: seconds that each step of a request may take.
        project: at most 100 characters; None for none.
        release: as `1.4.2` or a commit; where it goes live shows in the collector's charts. None for none.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        flush_interval: float = 10.0,
        timeout: float = 5.0,
        project: str | None = None,
        release: str | None = None,
    ) -> None:
        self.base_url = str(base_url or "").rstrip("/")
        self.api_key = str(api_key or "")
        self.flush_interval = flush_interval
        self.timeout = timeout
        self.project = project
        self.release = release
        self._points = PendingPoints(None if project is None else clean_text(str(project), PROJECT_CHARS_MAX))
        self._refused = 0
        self._is_started = False
        self._sender = Sender(
            Transport(self.base_url, self.api_key, timeout),
            self._take,
            self._count_refused,
            max(flush_interval, FLUSH_INTERVAL_MIN_S),
        )
        _lifecycle.adopt(self)

    @property
    def dropped(self) -> int:
        """How many values were given up in this process: there was no room, or the collector refused them."""
        return self._points.lost + self._refused

    @harmless(None)
    def start(self) -> None:
        """Begins to flush by itself. The thread starts with the first value, in whichever process that is."""
        self._is_started = True
        if self.release:
            self.gauge("release_info", 1, {"release": self.release})
        if len(self._points):
            self._sender.start()

    def counter(self, name: str, labels: Mapping[str, str] | None = None, value: float = 1) -> None:
        """Adds to a counter.

        Args:
            name: 1-200 characters, as `orders_total`.
            labels: at most 32, with texts of at most 200 characters.
            value: what to add; finite.
        """
        self._record("counter", name, value, labels)

    def histogram(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Adds an observation to a distribution; name, labels and value as of a counter."""
        self._record("histogram", name, value, labels)

    def gauge(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Sets a gauge; of several values within a second the last one counts."""
        self._record("gauge", name, value, labels)

    def timer(self, name: str, labels: Mapping[str, str] | None = None) -> Timer:
        """Measures, in seconds and as a histogram, what a `with` block or a decorated function takes, coroutines
        included, whether it raises or not."""
        return Timer(self, name, labels)

    def _record(self, kind: Kind, name: str, value: float, labels: Mapping[str, Any] | None) -> None:
        try:
            is_crowded = self._points.add(kind, name, value, labels)
            if self._is_started and (is_crowded or not self._sender.is_running):
                self._wake(is_crowded)
        except Exception as error:
            warn(f"Monlight leaves out a metric: {error}")

    def _wake(self, is_crowded: bool) -> None:
        if is_crowded:
            self._sender.wake()
        else:
            self._sender.start()

    @harmless(None)
    def flush(self) -> None:
        """Sends what has gathered, now and within `timeout` seconds. What does not arrive is kept."""
        self._flush_last(monotonic() + self.timeout)

    @harmless(None)
    def shutdown(self) -> None:
        """Stops flushing by itself and sends the rest, as `flush` does."""
        self._is_started = False
        self._sender.stop()
        self._flush_last(monotonic() + self.timeout)

    def _flush_last(self, deadline: float) -> None:
        self._sender.drain_last(deadline)

    def _hold_still(self, deadline: float) -> None:
        self._sender.hold_still(deadline)

    def _go_on(self) -> None:
        self._sender.go_on()

    def _forget(self) -> None:
        self._points.forget()
        self._sender.forget()

    def _take(self) -> Parcel | None:
        points = self._points.take(BATCH_POINTS_MAX, BATCH_BYTES_MAX)
        return Parcel("/api/metrics", points, is_list=True) if points else None

    def _count_refused(self, points: int) -> None:
        self._refused += points
