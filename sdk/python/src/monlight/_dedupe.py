"""Deduplication of reports: an exception seen by several parts of this package is reported once."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

ReportSource: TypeAlias = Literal["call", "hook", "log", "middleware", "handler"]

_SOURCE_ATTRIBUTE = "__monlight_source__"


def _attributes(exception: BaseException) -> dict[str, Any]:
    # Not `exception.__dict__` or `setattr`, which a class may override and which fails on a frozen dataclass.
    attributes: dict[str, Any] = vars(BaseException)["__dict__"].__get__(exception)
    return attributes


def mark_reported(exception: BaseException, source: ReportSource) -> None:
    """Records which part of this package reported the exception."""
    _attributes(exception)[_SOURCE_ATTRIBUTE] = source


def is_reported_by_other(exception: BaseException, source: ReportSource) -> bool:
    """Whether a source other than `source` has reported the exception.

    One exception may pass a log handler, a middleware and the server's log, and counts once. Some libraries raise the
    same exception object repeatedly; it then arrives from the same source again and counts each time.
    """
    return bool(_attributes(exception).get(_SOURCE_ATTRIBUTE, source) != source)
