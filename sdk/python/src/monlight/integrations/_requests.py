"""What all middlewares have in common: how a request is counted."""

from __future__ import annotations

from monlight._guard import harmless
from monlight.metrics_client import MetricsClient

# A stranger chooses methods and paths that no route has. Each in a series of its own would be a series for each attack.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
OTHER_METHOD = "OTHER"
UNMATCHED = "(unmatched)"

# As nginx says of a client that has gone before it was answered.
STATUS_GONE = 499


@harmless(None)
def count_request(metrics: MetricsClient | None, method: str, endpoint: str, status: int, duration_s: float) -> None:
    """Counts a request; `endpoint` is the path's template."""
    if metrics is None:
        return
    labels = {"method": method if method in METHODS else OTHER_METHOD, "endpoint": endpoint, "status": str(status)}
    metrics.counter("http_requests_total", labels=labels)
    metrics.histogram("http_request_duration_seconds", duration_s, labels=labels)
