"""Error containment: a failure inside this package is logged and never raises into the application."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import ParamSpec, TypeVar

logger = logging.getLogger("monlight")

P = ParamSpec("P")
R = TypeVar("R")

# Minimum time between two identical warnings, so that an unreachable service does not flood the application's log.
WARNING_INTERVAL_S = 60.0
WARNING_CACHE_MAX = 100

_last_logged_at: dict[str, float] = {}
_debug_handlers: list[logging.Handler] = []


def enable_debug() -> None:
    """Prints every warning and debug message of this package to standard error, without a minimum interval."""
    if not _debug_handlers:
        _debug_handlers.append(logging.StreamHandler())
        logger.addHandler(_debug_handlers[0])
        logger.setLevel(logging.DEBUG)
        # Otherwise a handler of the application would print each message again.
        logger.propagate = False


def is_debug_enabled() -> bool:
    """Whether `enable_debug` was called."""
    return bool(_debug_handlers)


def log_debug(message: str) -> None:
    """Logs a message if `enable_debug` was called. Never raises."""
    if _debug_handlers:
        logger.debug("%s", message)


def log_warning(message: str, *, exc_info: bool = False) -> None:
    """Logs a warning, identical messages at most once per `WARNING_INTERVAL_S` seconds. Never raises."""
    try:
        now = monotonic()
        logged_at = _last_logged_at.get(message)
        if logged_at is not None and now - logged_at < WARNING_INTERVAL_S and not _debug_handlers:
            return
        if len(_last_logged_at) >= WARNING_CACHE_MAX:
            _last_logged_at.clear()
        _last_logged_at[message] = now
        logger.warning("%s", message, exc_info=exc_info)
    except Exception:
        # A logging handler of the application raised, or the stack is exhausted: there is no way left to report it.
        pass


def never_raise(default: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function to log any exception and return `default` instead of raising."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                name = function.__qualname__
                log_warning(f"monlight: {name} failed: {type(error).__name__}; the call has no effect", exc_info=True)
                return default

        return wrapper

    return decorate


class _SendingState(threading.local):
    is_active = False


_sending_state = _SendingState()


def is_sending() -> bool:
    """Whether the current thread is sending a request. Log records created meanwhile come from this package."""
    return _sending_state.is_active


@contextmanager
def sending_request() -> Iterator[None]:
    """Marks the current thread as sending a request for the duration of the `with` block; see `is_sending`."""
    _sending_state.is_active = True
    try:
        yield
    finally:
        _sending_state.is_active = False


class _DropWhileSending(logging.Filter):
    """Filter that drops log records created while the current thread sends a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not is_sending()


# httpx logs a line per request at INFO, which would appear in the application's log.
for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(_DropWhileSending())
