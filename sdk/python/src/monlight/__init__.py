"""Monlight's client for Python: reports errors and sends metrics, and never gets in the application's way."""

from monlight._clients import Clients
from monlight._version import __version__
from monlight.error_client import ErrorClient
from monlight.hooks import init
from monlight.log_handler import MonlightHandler
from monlight.metrics_client import MetricsClient
from monlight.timing import Timer

__all__ = ["Clients", "ErrorClient", "MetricsClient", "MonlightHandler", "Timer", "__version__", "init"]
