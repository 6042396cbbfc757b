"""User and tags that are added to every report: those of the current request or task, of a thread, or of the process.

Each unit of work (a request, a task of Celery) has a scope of its own, which everything that it starts shares: code in
its thread pools and asyncio tasks sees the same values. Outside of units of work, each asyncio task and each thread
changes a copy of its own. The main thread changes the values of the process, which all others start with.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from monlight._safety import log_debug, log_warning
from monlight._serialize import describe_type, sanitize_string, scalar_text

TAGS_MAX = 100
TAG_CHARS_MAX = 200


class Scope:
    """A user and tags. A shared scope is changed in place; of any other, each change makes a copy.

    Args:
        user_id: Identifier of the user, or None.
        tags: Values by name.
        is_shared: Whether all code that sees the scope sees its changes.
        outer: Scope that `end_unit_of_work` restores.
    """

    __slots__ = ("is_shared", "outer", "tags", "user_id")

    def __init__(
        self, user_id: str | None, tags: dict[str, str], *, is_shared: bool, outer: Scope | None = None
    ) -> None:
        self.user_id = user_id
        self.tags = tags
        self.is_shared = is_shared
        self.outer = outer


_process = Scope(None, {}, is_shared=True)
_current: ContextVar[Scope | None] = ContextVar("monlight_scope", default=None)


def current_scope() -> Scope:
    """Returns the scope whose values the next report gets. The caller must not change it."""
    return _current.get() or _process


def process_scope() -> Scope:
    """Returns the scope of the process, with which a child process can start."""
    return _process


def inherit(user_id: str | None, tags: dict[str, str]) -> None:
    """Sets the user and tags of this process to those of its parent, unless it has set its own."""
    if _process.user_id is None:
        _process.user_id = user_id
    for name, value in tags.items():
        _process.tags.setdefault(name, value)


def set_user_id(user_id: str | None) -> None:
    """Sets or, with None, removes the user of the current scope."""
    _writable_scope().user_id = user_id


def set_tag(key: object, value: object) -> None:
    """Sets or, with None, removes a tag of the current scope. Values without a text are described by their type."""
    name = _tag_text(key)
    tags = _writable_scope().tags
    if value is None:
        tags.pop(name, None)
    elif name in tags or len(tags) < TAGS_MAX:
        tags[name] = _tag_text(value)
    else:
        log_warning(f"monlight: failed to set a tag: there are {TAGS_MAX} already; the new one is ignored")


def _tag_text(value: object) -> str:
    text = scalar_text(value)
    if text is None:
        text = describe_type(value)
        log_debug(f"monlight: a tag of type {type(value).__name__} cannot be used; the name of the type is reported")
    return sanitize_string(text, TAG_CHARS_MAX)


def tag_texts(tags: Any) -> dict[str, str]:
    """Returns the tags that a call adds to one report, as texts. Anything but a dictionary is dropped."""
    if tags is None:
        return {}
    if not issubclass(type(tags), dict):
        log_debug(f"monlight: tags of type {type(tags).__name__} cannot be used; they are dropped")
        return {}
    items = islice(dict.items(tags), TAGS_MAX)
    return {_tag_text(key): _tag_text(value) for key, value in items if value is not None}


def _writable_scope() -> Scope:
    scope = current_scope()
    if scope.is_shared and (scope is not _process or _is_process_level()):
        return scope
    copy = Scope(scope.user_id, dict(scope.tags), is_shared=False, outer=scope.outer)
    _current.set(copy)
    return copy


def _is_process_level() -> bool:
    """Whether this is the main thread and it runs no event loop."""
    if threading.get_ident() != threading.main_thread().ident:
        return False
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is None or not asyncio.get_running_loop()
    except RuntimeError:
        return True


def begin_unit_of_work() -> None:
    """Starts a scope with the current values. Changes of the values end with it."""
    outer = current_scope()
    _current.set(Scope(outer.user_id, dict(outer.tags), is_shared=True, outer=_current.get()))


def end_unit_of_work() -> None:
    """Restores the scope before the last `begin_unit_of_work`."""
    scope = _current.get()
    if scope is not None:
        _current.set(scope.outer)


@contextmanager
def unit_of_work() -> Iterator[Scope]:
    """Runs a `with` block as a unit of work and returns its scope."""
    outer = current_scope()
    with activated(Scope(outer.user_id, dict(outer.tags), is_shared=True)) as scope:
        yield scope


@contextmanager
def activated(scope: Scope) -> Iterator[Scope]:
    """Makes a scope the current one inside a `with` block."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)
