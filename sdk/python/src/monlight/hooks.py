"""Process-wide setup: reports uncaught exceptions of the main thread, of other threads and of asyncio tasks."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from monlight._clients import Clients, create_clients
from monlight._safety import never_raise
from monlight.error_client import ErrorClient
from monlight.log_handler import MonlightHandler


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
) -> Clients:
    """Creates the clients and reports every uncaught exception from now on.

    The previous `sys.excepthook` and `threading.excepthook` are still called. Exceptions of tasks and callbacks are
    reported when asyncio, or another event loop, logs them; this does not happen if the application sets its own
    exception handler on the loop. Call `init` once; a second call makes the hooks use its own client.

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

    Returns:
        The clients that were created.
    """
    clients = create_clients(
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
    )
    errors = clients["error_client"]
    if errors is not None:
        _exception_hooks.install(errors)
    return clients


class _ExceptionHooks:
    """Hooks for uncaught exceptions, installed at most once per process."""

    def __init__(self) -> None:
        self._errors: ErrorClient | None = None

    @never_raise(None)
    def install(self, errors: ErrorClient) -> None:
        """Installs the hooks, or makes installed hooks use another client."""
        is_first_call = self._errors is None
        self._errors = errors
        if is_first_call:
            self._install_main_hook()
            self._install_thread_hook()
            # A filter instead of a handler: with a handler on this logger, Python would no longer print asyncio's log
            # records in applications that do not configure logging.
            logging.getLogger("asyncio").addFilter(self._inspect)

    def _inspect(self, record: logging.LogRecord) -> bool:
        if self._errors is not None and record.levelno >= logging.ERROR:
            MonlightHandler(self._errors).handle(record)
        return True

    def _install_main_hook(self) -> None:
        previous = sys.excepthook

        def excepthook(kind: type[BaseException], exception: BaseException, traceback: TracebackType | None) -> None:
            self._report(exception, {})
            previous(kind, exception, traceback)

        sys.excepthook = excepthook

    def _install_thread_hook(self) -> None:
        previous = threading.excepthook

        def excepthook(args: threading.ExceptHookArgs) -> None:
            name = None if args.thread is None else args.thread.name
            self._report(args.exc_value, {"extra": {"thread": name}})
            previous(args)

        threading.excepthook = excepthook

    @never_raise(None)
    def _report(self, exception: BaseException | None, context: dict[str, Any]) -> None:
        # An interrupt from the keyboard and a requested exit are not errors.
        if exception is None or isinstance(exception, (KeyboardInterrupt, SystemExit)):
            return
        if self._errors is not None:
            self._errors._report_once(exception, "hook", context)


_exception_hooks = _ExceptionHooks()
