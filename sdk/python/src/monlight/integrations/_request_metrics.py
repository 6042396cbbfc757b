"""Request metrics shared by all middlewares."""

from __future__ import annotations

from monlight._safety import never_raise
from monlight.metrics_client import MetricsClient

# Clients choose the method and the path of a request. Unknown methods and paths without a route share one label value
# each; otherwise an attacker could create an unlimited number of series.
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
OTHER_METHOD = "OTHER"
UNMATCHED = "(unmatched)"

# Status that nginx logs when the client closes the connection before the response ("client closed request").
STATUS_CLIENT_CLOSED = 499


@never_raise(None)
def record_request(
    metrics: MetricsClient | None, method: str, path_template: str, status: int, duration_s: float
) -> None:
    """Records a request in `http_requests_total` and `http_request_duration_seconds`, if there is a metrics client."""
    if metrics is None:
        return
    labels = {
        "method": method if method in KNOWN_METHODS else OTHER_METHOD,
        "endpoint": path_template,
        "status": str(status),
    }
    metrics.counter("http_requests_total", labels=labels)
    metrics.histogram("http_request_duration_seconds", duration_s, labels=labels)
