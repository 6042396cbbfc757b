"""Where every fault of this package ends: nothing that it does may raise into the application."""

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

# The same warning again and again, as while a service is down, would bury the application's own log.
WARN_AGAIN_AFTER_S = 60.0
WARNINGS_REMEMBERED_MAX = 100

_warned: dict[str, float] = {}


def warn(sentence: str, *, exc_info: bool = False) -> None:
    """Logs a warning, the same one at most once in `WARN_AGAIN_AFTER_S` seconds. Never raises."""
    try:
        now = monotonic()
        before = _warned.get(sentence)
        if before is not None and now - before < WARN_AGAIN_AFTER_S:
            return
        if len(_warned) >= WARNINGS_REMEMBERED_MAX:
            _warned.clear()
        _warned[sentence] = now
        logger.warning("%s", sentence, exc_info=exc_info)
    except Exception:
        # A logging handler of the application raised, or the stack is exhausted: there is nobody left to tell.
        pass


def harmless(default: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function log what it raises, and answer `default` instead."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception:
                warn(f"Monlight failed in {function.__qualname__}", exc_info=True)
                return default

        return guarded

    return decorate


class _Sending(threading.local):
    active = False


_sending = _Sending()


def is_sending() -> bool:
    """Whether this thread is sending a report right now: what is logged meanwhile is this package's own doing."""
    return _sending.active


@contextmanager
def sending() -> Iterator[None]:
    _sending.active = True
    try:
        yield
    finally:
        _sending.active = False


class _QuietWhileSending(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not is_sending()


# httpx writes a line for each request, which an application that logs at INFO would find among its own.
for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(_QuietWhileSending())
