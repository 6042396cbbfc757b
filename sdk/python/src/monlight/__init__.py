"""Monlight's client for Python: reports errors and sends metrics, and never gets in the application's way."""

from monlight._version import __version__
from monlight.error_client import ErrorClient
from monlight.metrics_client import MetricsClient
from monlight.timing import Timer

__all__ = ["ErrorClient", "MetricsClient", "Timer", "__version__"]
