"""Process-wide setup: creates the clients and reports all uncaught exceptions."""

from __future__ import annotations

from collections.abc import Iterable

from monlight._before_send import BeforeSend
from monlight._clients import Clients, create_clients


def init(
    *,
    error_tracker_url: str | None = None,
    metrics_collector_url: str | None = None,
    api_key: str,
    project: str = "default",
    flush_interval: float = 10.0,
    environment: str | None = None,
    release: str | None = None,
    timeout: float = 5.0,
    excluded_headers: Iterable[str] | None = None,
    include_locals: bool = False,
    debug: bool = False,
    before_send: BeforeSend | None = None,
) -> Clients:
    """Creates the clients and reports every uncaught exception from now on.

    Covers the main thread, other threads, asyncio, child processes of multiprocessing, `__del__`, `atexit` and the
    tasks of Celery. Previous hooks, such as `sys.excepthook`, are still called. Exceptions of tasks and callbacks of
    asyncio are reported when the event loop logs them; this does not happen if the application sets its own exception
    handler on the loop. Call `init` once; a second call makes the hooks use its own client.

    Args:
        error_tracker_url: Base URL of the error tracker, for example `http://localhost:5010`. None disables reports.
            Default: None.
        metrics_collector_url: Base URL of the metrics collector, for example `http://localhost:5012`. None disables
            metrics. Default: None.
        api_key: API key with the scope `ingest`.
        project: Name of the project, 1-100 characters. Default: `default`.
        flush_interval: Seconds between two flushes of metrics, at least 0.01. Default: 10.
        environment: Environment of reports, for example `staging`. The tracker uses `prod` if it is None.
            Default: None.
        release: Version of the application, for example `1.4.2` or a commit hash. Default: None.
        timeout: Maximum seconds for each step of a request (connect, send, receive). Default: 5.
        excluded_headers: Names of request headers to leave out of reports, in addition to headers with secrets.
            Default: none.
        include_locals: Whether to report the local variables of the innermost five frames. Default: False.
        debug: Whether to print to standard error what the services rejected or changed, and why. Default: False.
        before_send: Function that receives each report and a hint, and returns the report, changed or not, or None to
            drop it; see `ErrorClient`. Child processes that do not inherit memory need a function that can be pickled.
            Default: None.

    Returns:
        The clients that were created.
    """
    return create_clients(
        error_tracker_url=error_tracker_url,
        metrics_collector_url=metrics_collector_url,
        api_key=api_key,
        project=project,
        flush_interval=flush_interval,
        environment=environment,
        release=release,
        timeout=timeout,
        excluded_headers=excluded_headers,
        include_locals=include_locals,
        debug=debug,
        before_send=before_send,
    )
