"""What the applications beside this file are told by their environment."""

import os
from typing import Any

# Without this package, to compare.
PLAIN = "PLAIN" in os.environ

MONLIGHT: dict[str, Any] = {
    "error_tracker_url": os.environ.get("MONLIGHT_TRACKER"),
    "metrics_collector_url": os.environ.get("MONLIGHT_COLLECTOR"),
    "api_key": os.environ.get("MONLIGHT_KEY", ""),
    "project": "shop",
    "flush_interval": float(os.environ.get("FLUSH_INTERVAL", "0.2")),
    "environment": "tests",
    "release": "1.4.2",
}
