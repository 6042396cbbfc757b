"""The request that is being answered, for reports that are made from within it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

# Only what raises or logs an error pays for a description.
Describe: TypeAlias = Callable[[], Mapping[str, Any]]

_current: ContextVar[Describe | None] = ContextVar("monlight_request", default=None)


def current_request() -> Mapping[str, Any]:
    """What is known of the current request, by the names of `request_context`; nothing outside of one."""
    describe = _current.get()
    try:
        return {} if describe is None else describe()
    except Exception:
        # A request whose Host header the framework refuses, for example. The error is worth reporting without.
        return {}


@contextmanager
def request(describe: Describe) -> Iterator[None]:
    """Within it, reports carry what `describe` answers."""
    token = _current.set(describe)
    try:
        yield
    finally:
        _current.reset(token)
