"""Python client for Monlight: reports exceptions to the error tracker and sends metrics to the metrics collector.

No call raises an exception into the application or waits for the network, except the methods documented to wait.
"""

from monlight._clients import Clients
from monlight._version import __version__
from monlight.capture import capture_exception, capture_message, set_tag, set_user
from monlight.error_client import ErrorClient
from monlight.hooks import init
from monlight.log_handler import MonlightHandler
from monlight.metrics_client import MetricsClient
from monlight.timing import Timer

__all__ = [
    "Clients",
    "ErrorClient",
    "MetricsClient",
    "MonlightHandler",
    "Timer",
    "__version__",
    "capture_exception",
    "capture_message",
    "init",
    "set_tag",
    "set_user",
]
