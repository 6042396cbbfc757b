"""Buffer of metric points that have not been sent.

Counters are summed per minute, gauges keep the last value of each second, and histograms keep every value.
"""

from __future__ import annotations

import json
import math
import threading
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from time import time
from typing import Any, Literal, TypeAlias

from monlight._safety import log_warning
from monlight._serialize import SAFE_INTEGER_MAX, sanitize_string

MetricType: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]
SeriesKey: TypeAlias = tuple[MetricType, str, Labels]

# Limits of the metrics collector.
NAME_CHARS_MAX = 200
LABELS_MAX = 32
LABEL_CHARS_MAX = 200

# Takes about 1 MB as histogram values, or 20 MB as counters that each have their own labels.
POINTS_MAX = 100_000
# Number of pending points that triggers a flush before the flush interval has passed.
FLUSH_THRESHOLD_POINTS = POINTS_MAX // 2
# Number of combinations of type, name and labels whose normalized series key is cached.
SERIES_CACHE_MAX = 10_000
# Width of a bucket of counters and histograms: the collector's shortest bucket, so that sums lose no precision.
BUCKET_S = 60


@dataclass
class _PendingSeries:
    """Pending data of one series in one bucket: a counter's sum or a gauge's value, or a histogram's values."""

    timestamp: float
    number: float = 0
    values: array[float] | None = None


class PendingPoints:
    """Bounded, thread-safe buffer of metric points.

    When the buffer is full, a new point evicts the oldest bucket. If the new point belongs to the oldest bucket, the
    new point is dropped instead.
    """

    def __init__(self, project: str | None) -> None:
        self._project = project
        self.dropped = 0
        """Number of points dropped because the buffer was full."""
        self.reset()

    def reset(self) -> None:
        """Empties the buffer. Replaces the lock, which a thread that does not exist after a fork may hold."""
        self._count = 0
        self._buckets: dict[int, dict[SeriesKey, _PendingSeries]] = {}
        self._series_cache: dict[Any, SeriesKey] = {}
        self._incoming: deque[tuple[MetricType, str, float, tuple[tuple[str, Any], ...], float]] = deque()
        self._lock = threading.RLock()
        self._is_busy = False

    def __len__(self) -> int:
        return self._count

    def add(self, metric_type: MetricType, name: str, value: float, labels: Mapping[str, Any] | None) -> bool:
        """Adds a point with the current time.

        Returns:
            Whether this point reached `FLUSH_THRESHOLD_POINTS`, so that a flush is due.

        Raises:
            ValueError: If the name is empty or the value is not a finite number. Other types of value and labels may
                raise other exceptions.
        """
        self._incoming.append((metric_type, name, value, tuple(labels.items()) if labels else (), time()))
        count_before = self._count
        self._process_incoming()
        return count_before < FLUSH_THRESHOLD_POINTS <= self._count

    def _process_incoming(self) -> None:
        # A signal handler or a finalizer may interrupt this loop and add a point on the same thread. That call returns
        # here, and the interrupted loop processes the point.
        with self._lock:
            if self._is_busy:
                return
            self._is_busy = True
            try:
                while self._incoming:
                    self._store(*self._incoming.popleft())
            finally:
                self._is_busy = False

    def _store(
        self, metric_type: MetricType, name: str, value: float, labels: tuple[tuple[str, Any], ...], timestamp: float
    ) -> None:
        number = value if type(value) is int and -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX else float(value)
        if not math.isfinite(number):
            raise ValueError(f"value of metric {name!r} must be a finite number, not {number}")
        key = self._series_key(metric_type, name, labels)
        second = int(timestamp)
        bucket = self._buckets.setdefault(second if metric_type == "gauge" else second - second % BUCKET_S, {})
        series = bucket.get(key)
        if metric_type == "histogram" or series is None:
            if self._count >= POINTS_MAX and not self._evict_oldest_bucket(bucket):
                self.dropped += 1
                return
            self._count += 1
        if series is None:
            series = bucket[key] = _PendingSeries(timestamp, values=array("d") if metric_type == "histogram" else None)
        series.timestamp = timestamp
        if series.values is not None:
            series.values.append(number)
        elif metric_type == "counter":
            series.number += number
        else:
            series.number = number

    def _evict_oldest_bucket(self, current: dict[SeriesKey, _PendingSeries]) -> bool:
        """Evicts the oldest bucket and returns True; returns False if the oldest bucket is the current one."""
        oldest = next(iter(self._buckets))
        if self._buckets[oldest] is current:
            return False
        evicted = self._buckets.pop(oldest).values()
        points = sum(1 if series.values is None else len(series.values) for series in evicted)
        self._count -= points
        self.dropped += points
        return True

    def _series_key(self, metric_type: MetricType, name: str, labels: tuple[tuple[str, Any], ...]) -> SeriesKey:
        cache_key = (metric_type, name, labels)
        try:
            key = self._series_cache.get(cache_key)
        except TypeError:
            # A label value is not hashable.
            return _normalize_series(metric_type, name, labels)
        if key is None:
            key = _normalize_series(metric_type, name, labels)
            if len(self._series_cache) >= SERIES_CACHE_MAX:
                self._series_cache.clear()
            # The label values 1, 1.0 and True are equal as dictionary keys, but become different labels.
            if all(type(label_value) is str for _, label_value in labels):
                self._series_cache[cache_key] = key
        return key

    def take_batch(self, points_max: int, bytes_max: int) -> tuple[bytes, ...]:
        """Removes and returns the oldest points, each encoded as a JSON object.

        Args:
            points_max: Maximum number of points.
            bytes_max: Maximum total size in bytes, with one separator per point. One larger point is still returned.
        """
        self._process_incoming()
        batch: list[bytes] = []
        with self._lock:
            self._is_busy = True
            try:
                self._fill_batch(batch, points_max, bytes_max)
            finally:
                self._is_busy = False
        return tuple(batch)

    def _fill_batch(self, batch: list[bytes], points_max: int, bytes_max: int) -> None:
        batch_bytes = 0
        while self._buckets:
            bucket_start, bucket = next(iter(self._buckets.items()))
            while bucket:
                key, series = next(iter(bucket.items()))
                prefix, suffix = self._json_around_value(key, series)
                numbers = [series.number] if series.values is None else series.values
                while numbers:
                    point = f"{prefix}{numbers[-1]!r}{suffix}".encode()
                    batch_bytes += len(point) + 1
                    if batch and (len(batch) >= points_max or batch_bytes > bytes_max):
                        return
                    # Finite numbers may have an infinite sum, which JSON cannot represent.
                    if math.isfinite(numbers.pop()):
                        batch.append(point)
                    self._count -= 1
                del bucket[key]
            del self._buckets[bucket_start]

    def _json_around_value(self, key: SeriesKey, series: _PendingSeries) -> tuple[str, str]:
        """Returns the parts of a point's JSON object before and after the value, shared by all values of a series."""
        metric_type, name, labels = key
        prefix = f'{{"name":{_to_json(name)},"type":"{metric_type}","value":'
        timestamp = datetime.fromtimestamp(int(series.timestamp), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        suffix = f',"timestamp":"{timestamp}"'
        if labels:
            suffix += f',"labels":{_to_json(dict(labels))}'
        if self._project:
            suffix += f',"project":{_to_json(self._project)}'
        return prefix, suffix + "}"


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _normalize_series(metric_type: MetricType, name: str, labels: tuple[tuple[str, Any], ...]) -> SeriesKey:
    """Returns the series key as the collector stores it: sorted labels, and strings within the collector's limits."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"metric name must be a non-empty string, not {name!r}")
    if len(labels) > LABELS_MAX:
        log_warning(f"monlight: metric {name!r} has {len(labels)} labels, maximum {LABELS_MAX}; the rest are dropped")
    normalized = sorted((_label_string(key), _label_string(value)) for key, value in labels[:LABELS_MAX])
    return metric_type, sanitize_string(name, NAME_CHARS_MAX), tuple(normalized)


def _label_string(value: object) -> str:
    return sanitize_string(str(value).lower() if isinstance(value, bool) else str(value), LABEL_CHARS_MAX)
