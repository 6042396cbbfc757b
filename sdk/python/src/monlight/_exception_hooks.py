"""Process-wide hooks for exceptions that nobody catches."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any

from monlight import _lifecycle, _scope
from monlight._before_send import pickle_function, unpickle_function
from monlight._child_processes import report_failed_processes
from monlight._post_import import when_imported
from monlight._safety import never_raise
from monlight.error_client import ErrorClient
from monlight.integrations.celery import report_failed_tasks
from monlight.log_handler import MonlightHandler


class ExceptionHooks:
    """Hooks for uncaught exceptions, installed at most once per process."""

    def __init__(self) -> None:
        self._errors: ErrorClient | None = None

    @property
    def client(self) -> ErrorClient | None:
        """Client that the hooks report to; None before `install`."""
        return self._errors

    @never_raise(None)
    def install(self, errors: ErrorClient) -> None:
        """Installs the hooks, or makes installed hooks use another client."""
        is_first_call = self._errors is None
        self._errors = errors
        if is_first_call:
            self._install_main_hook()
            self._install_thread_hook()
            self._install_unraisable_hook()
            # A filter instead of a handler: with a handler on this logger, Python would no longer print asyncio's log
            # records in applications that do not configure logging.
            logging.getLogger("asyncio").addFilter(self._inspect)
            when_imported(
                "multiprocessing.process",
                lambda module: report_failed_processes(module, self.report, self._child_setup),
            )
            when_imported("celery.signals", lambda module: report_failed_tasks(module, lambda: self._errors))

    def _inspect(self, record: logging.LogRecord) -> bool:
        if self._errors is not None and record.levelno >= logging.ERROR:
            MonlightHandler(self._errors).handle(record)
        return True

    def _install_main_hook(self) -> None:
        previous = sys.excepthook

        def excepthook(kind: type[BaseException], exception: BaseException, traceback: TracebackType | None) -> None:
            self.report(exception, {})
            previous(kind, exception, traceback)

        sys.excepthook = excepthook

    def _install_thread_hook(self) -> None:
        previous = threading.excepthook

        def excepthook(args: threading.ExceptHookArgs) -> None:
            name = None if args.thread is None else args.thread.name
            self.report(args.exc_value, {"extra": {"thread": name}})
            previous(args)

        threading.excepthook = excepthook

    def _install_unraisable_hook(self) -> None:
        """Reports exceptions in `__del__`, in callbacks of `atexit` and `weakref`, and during garbage collection."""
        previous = sys.unraisablehook

        def unraisablehook(unraisable: sys.UnraisableHookArgs) -> None:
            # By type and not by `repr`: the object may be in the middle of its destruction.
            self.report(unraisable.exc_value, {"extra": {"ignored_in": unraisable.object}})
            previous(unraisable)

        sys.unraisablehook = unraisablehook

    @never_raise(None)
    def report(self, exception: BaseException | None, context: dict[str, Any]) -> None:
        """Reports an uncaught exception, unless it is an interrupt from the keyboard or a requested exit."""
        if exception is None or isinstance(exception, (KeyboardInterrupt, SystemExit)):
            return
        if self._errors is not None:
            self._errors._report_once(exception, "hook", context)
            _lifecycle.flush_if_exiting()

    def _child_setup(self) -> Any:
        if self._errors is None:
            return None
        scope = _scope.process_scope()
        before_send = pickle_function(self._errors.before_send)
        return _install_in_child, (self._errors._arguments(), before_send, scope.user_id, dict(scope.tags))


hooks = ExceptionHooks()


@never_raise(None)
def _install_in_child(
    arguments: dict[str, Any], before_send: bytes | None, user_id: str | None, tags: dict[str, str]
) -> None:
    """Installs the hooks in a child process that does not inherit them, unless its main module has installed them.

    Args:
        arguments: Arguments of the client.
        before_send: Result of `pickle_function`.
        user_id, tags: User and tags of the parent process.
    """
    if hooks.client is None:
        hooks.install(ErrorClient(**arguments, before_send=unpickle_function(before_send)))
        _scope.inherit(user_id, tags)
