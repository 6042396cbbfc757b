"""Deduplication of reports: an exception seen by several parts of this package is reported once."""

from __future__ import annotations

from typing import Literal, TypeAlias

ReportSource: TypeAlias = Literal["call", "hook", "log", "middleware", "handler"]

_SOURCE_ATTRIBUTE = "__monlight_source__"


def mark_reported(exception: BaseException, source: ReportSource) -> None:
    """Records which part of this package reported the exception."""
    # Written to __dict__ because setattr fails on an exception that is a frozen dataclass.
    exception.__dict__[_SOURCE_ATTRIBUTE] = source


def is_reported_by_other(exception: BaseException, source: ReportSource) -> bool:
    """Whether a source other than `source` has reported the exception.

    One exception may pass a log handler, a middleware and the server's log, and counts once. Some libraries raise the
    same exception object repeatedly; it then arrives from the same source again and counts each time.
    """
    return bool(exception.__dict__.get(_SOURCE_ATTRIBUTE, source) != source)
