"""Reports what nobody catches: in the main thread, in other threads and in tasks of asyncio."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from monlight._clients import Clients, make_clients
from monlight._guard import harmless
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
) -> Clients:
    """Makes clients for what has a URL, and reports from now on every exception that nobody catches.

    `sys.excepthook` and `threading.excepthook` go on to do what they did. Tasks and callbacks are reported where
    asyncio, or another event loop, logs what became of them; an application that has set an exception handler of its
    own on a loop handles them itself. To be called once; a second call redirects the hooks to its own client.
    """
    clients = make_clients(
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
    )
    errors = clients["error_client"]
    if errors is not None:
        _hooks.redirect(errors)
    return clients


class _Hooks:
    """What was hooked, once in a process."""

    def __init__(self) -> None:
        self._errors: ErrorClient | None = None

    @harmless(None)
    def redirect(self, errors: ErrorClient) -> None:
        is_first = self._errors is None
        self._errors = errors
        if is_first:
            self._hook_main()
            self._hook_threads()
            # Not a handler: where there is no other, Python would stop to print what asyncio logs.
            logging.getLogger("asyncio").addFilter(self._look_at)

    def _look_at(self, record: logging.LogRecord) -> bool:
        if self._errors is not None and record.levelno >= logging.ERROR:
            MonlightHandler(self._errors).handle(record)
        return True

    def _hook_main(self) -> None:
        previous = sys.excepthook

        def excepthook(kind: type[BaseException], exception: BaseException, traceback: TracebackType | None) -> None:
            self._report(exception, {})
            previous(kind, exception, traceback)

        sys.excepthook = excepthook

    def _hook_threads(self) -> None:
        previous = threading.excepthook

        def excepthook(args: threading.ExceptHookArgs) -> None:
            name = None if args.thread is None else args.thread.name
            self._report(args.exc_value, {"extra": {"thread": name}})
            previous(args)

        threading.excepthook = excepthook

    @harmless(None)
    def _report(self, exception: BaseException | None, context: dict[str, Any]) -> None:
        # What a person does at the keyboard, and what a program asks for, are no errors.
        if exception is None or isinstance(exception, (KeyboardInterrupt, SystemExit)):
            return
        if self._errors is not None:
            self._errors._report_once(exception, "hook", context)


_hooks = _Hooks()
