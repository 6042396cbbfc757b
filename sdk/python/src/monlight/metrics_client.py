"""Client for the metrics collector."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from monlight import _lifecycle
from monlight._points import MetricType, PendingPoints
from monlight._safety import log_warning, never_raise
from monlight._sender import Sender
from monlight._serialize import sanitize_name
from monlight._transport import Payload, Transport
from monlight.timing import Timer

# Limits of one request. The collector accepts 1,000 points and 524,288 bytes.
BATCH_POINTS_MAX = 1_000
BATCH_BYTES_MAX = 450_000
PROJECT_CHARS_MAX = 100
FLUSH_INTERVAL_MIN_S = 0.01


class MetricsClient:
    """Records metrics and sends them to the metrics collector from a background thread.

    No method raises an exception, and only `flush` and `shutdown` wait for the network. Values that could not be sent
    are kept, at most 100,000 of them, and retried without counting twice.

    Args:
        base_url: Base URL of the metrics collector, for example `http://localhost:5012`.
        api_key: API key with the scope `ingest`.
        flush_interval: Seconds between two flushes, at least 0.01. Default: 10.
        timeout: Maximum seconds for each step of a request (connect, send, receive). Default: 5.
        project: Name of the project, at most 100 characters. Default: None.
        release: Version of the application, for example `1.4.2` or a commit hash. The collector's charts mark the time
            at which a release starts. Default: None.
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
        self._points = PendingPoints(sanitize_name(project, PROJECT_CHARS_MAX))
        self._rejected = 0
        self._is_started = False
        self._sender = Sender(
            Transport(self.base_url, self.api_key, timeout),
            self._next_payload,
            self._count_rejected,
            max(flush_interval, FLUSH_INTERVAL_MIN_S),
        )
        _lifecycle.register_client(self)

    @property
    def dropped(self) -> int:
        """Number of values dropped in this process, because the buffer was full or the collector rejected them."""
        return self._points.dropped + self._rejected

    @never_raise(None)
    def start(self) -> None:
        """Starts to flush every `flush_interval` seconds.

        The background thread starts with the first value, in the process that records it, so `start` may be called
        before a server forks its workers.
        """
        self._is_started = True
        if self.release:
            self.gauge("release_info", 1, {"release": self.release})
        if len(self._points):
            self._sender.start()

    def counter(self, name: str, labels: Mapping[str, str] | None = None, value: float = 1) -> None:
        """Adds a value to a counter.

        Args:
            name: Name of the metric, 1-200 characters, for example `orders_total`.
            labels: At most 32 labels, with names and values of at most 200 characters. Default: none.
            value: Finite number to add. Default: 1.
        """
        self._record("counter", name, value, labels)

    def histogram(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Adds an observation to a histogram.

        Args:
            name: Name of the metric, 1-200 characters, for example `order_ms`.
            value: Observed value, a finite number.
            labels: At most 32 labels, with names and values of at most 200 characters. Default: none.
        """
        self._record("histogram", name, value, labels)

    def gauge(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Sets the value of a gauge. Only the last value within a second is kept.

        Args:
            name: Name of the metric, 1-200 characters, for example `queue_depth`.
            value: Current value, a finite number.
            labels: At most 32 labels, with names and values of at most 200 characters. Default: none.
        """
        self._record("gauge", name, value, labels)

    def timer(self, name: str, labels: Mapping[str, str] | None = None) -> Timer:
        """Returns a timer that records durations, in seconds, in a histogram.

        Use the timer in a `with` statement or as a decorator of a function or coroutine function. It also records a
        duration that ends with an exception.

        Args:
            name: Name of the metric, 1-200 characters, for example `import_seconds`.
            labels: At most 32 labels, with names and values of at most 200 characters. Default: none.
        """
        return Timer(self, name, labels)

    def _record(self, metric_type: MetricType, name: str, value: float, labels: Mapping[str, Any] | None) -> None:
        try:
            is_flush_due = self._points.add(metric_type, name, value, labels)
            if self._is_started and (is_flush_due or not self._sender.is_running):
                self._start_or_wake(is_flush_due)
        except Exception as error:
            log_warning(f"monlight: failed to record a metric: {error}; the value is dropped")

    def _start_or_wake(self, is_flush_due: bool) -> None:
        if is_flush_due:
            self._sender.wake()
        else:
            self._sender.start()

    @never_raise(None)
    def flush(self) -> None:
        """Sends pending values now, for at most `timeout` seconds. Values that could not be sent are kept."""
        self._flush_at_exit(monotonic() + self.timeout)

    @never_raise(None)
    def shutdown(self) -> None:
        """Stops the background thread and sends pending values, for at most `timeout` seconds."""
        self._is_started = False
        self._sender.stop()
        self._flush_at_exit(monotonic() + self.timeout)

    def _flush_at_exit(self, deadline: float) -> None:
        self._sender.drain_at_exit(deadline)

    def _pause_for_fork(self, deadline: float) -> None:
        self._sender.pause_for_fork(deadline)

    def _resume_after_fork(self) -> None:
        self._sender.resume_after_fork()

    def _reset_in_child(self) -> None:
        self._points.reset()
        self._sender.reset()

    def _next_payload(self) -> Payload | None:
        points = self._points.take_batch(BATCH_POINTS_MAX, BATCH_BYTES_MAX)
        return Payload("/api/metrics", points, is_list=True) if points else None

    def _count_rejected(self, points: int) -> None:
        self._rejected += points
