"""Settings of the test applications, read from environment variables."""

import os
from typing import Any

# Disables this package, to measure the application alone.
IS_DISABLED = "DISABLE_MONLIGHT" in os.environ

MONLIGHT: dict[str, Any] = {
    "error_tracker_url": os.environ.get("MONLIGHT_TRACKER"),
    "metrics_collector_url": os.environ.get("MONLIGHT_COLLECTOR"),
    "api_key": os.environ.get("MONLIGHT_KEY", ""),
    "project": "shop",
    "flush_interval": float(os.environ.get("FLUSH_INTERVAL", "0.2")),
    "environment": "tests",
    "release": "1.4.2",
}
