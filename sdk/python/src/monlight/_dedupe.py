"""Deduplication of reports: an exception or log record seen by several parts of this package is reported once."""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeAlias

ReportSource: TypeAlias = Literal["call", "hook", "log", "middleware", "handler", "task"]

_SOURCE_ATTRIBUTE = "__monlight_source__"
REPORTED_TO_ATTRIBUTE = "_monlight_reported_to"


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


def claim_record(record: logging.LogRecord, target: str) -> bool:
    """Returns whether this is the first handler that reports the record to `target`, and marks it as reported.

    A record may reach a handler of the application and the hook for asyncio.
    """
    targets = vars(record).setdefault(REPORTED_TO_ATTRIBUTE, set())
    is_first = target not in targets
    targets.add(target)
    return is_first
