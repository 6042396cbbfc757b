"""Context of the HTTP request being handled, attached to every report made while it is handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from monlight._scope import Scope, unit_of_work

# A function instead of a mapping, so that only requests that report an error pay for building the context.
BuildRequestContext: TypeAlias = Callable[[], Mapping[str, Any]]

_build_current: ContextVar[BuildRequestContext | None] = ContextVar("monlight_request", default=None)


def current_request_context() -> Mapping[str, Any]:
    """Returns the `request_context` of the current request; empty outside a request."""
    build_context = _build_current.get()
    try:
        return {} if build_context is None else build_context()
    except Exception:
        # For example, the framework rejects the request's Host header. The error is worth reporting without context.
        return {}


@contextmanager
def request_scope(build_context: BuildRequestContext) -> Iterator[Scope]:
    """Attaches the context that `build_context` returns to every report made inside the `with` block.

    The user and tags that are set inside the block end with it. Returns their scope.
    """
    token = _build_current.set(build_context)
    try:
        with unit_of_work() as scope:
            yield scope
    finally:
        _build_current.reset(token)
