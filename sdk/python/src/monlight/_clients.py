"""Factory for the error and metrics clients, shared by `monlight.init` and the integrations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from monlight._before_send import BeforeSend
from monlight._exception_hooks import hooks
from monlight._safety import enable_debug
from monlight.error_client import ErrorClient
from monlight.metrics_client import MetricsClient


class Clients(TypedDict):
    """The clients that were created; a client is None if no URL was given for its service."""

    error_client: ErrorClient | None
    metrics_client: MetricsClient | None


def create_clients(
    *,
    error_tracker_url: str | None,
    metrics_collector_url: str | None,
    api_key: str,
    project: str,
    flush_interval: float,
    environment: str | None,
    release: str | None,
    timeout: float,
    excluded_headers: Iterable[str] | None,
    include_locals: bool,
    debug: bool,
    before_send: BeforeSend | None,
) -> Clients:
    """Creates a client for each URL, starts the metrics client and installs the hooks for uncaught exceptions.

    See `monlight.init` for the arguments.
    """
    clients = Clients(error_client=None, metrics_client=None)
    if debug:
        enable_debug()
    if error_tracker_url:
        errors = clients["error_client"] = ErrorClient(
            error_tracker_url,
            api_key,
            project,
            timeout,
            excluded_headers,
            environment=environment,
            release=release,
            include_locals=include_locals,
            before_send=before_send,
        )
        hooks.install(errors)
    if metrics_collector_url:
        metrics = clients["metrics_client"] = MetricsClient(
            metrics_collector_url, api_key, flush_interval, timeout, project, release
        )
        metrics.start()
    return clients
