"""Reports what an application logs as an error."""

from __future__ import annotations

import logging
from typing import Any

from monlight._clean import clean_text
from monlight._guard import is_sending, warn
from monlight._report import MESSAGE_CHARS_MAX, TRACEBACK_CHARS_MAX, TYPE_CHARS_MAX, Level
from monlight.error_client import ErrorClient

# What every record has; the rest is what the application gave as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class MonlightHandler(logging.Handler):
    """A handler for any logger.

    A record with an exception becomes the report of that exception; any other goes by the logger's name as its type and
    is grouped by the line that logged it.
    """

    def __init__(self, error_client: ErrorClient, level: int = logging.ERROR) -> None:
        super().__init__(level)
        self._errors = error_client

    def emit(self, record: logging.LogRecord) -> None:
        if is_sending() or record.name.partition(".")[0] == "monlight":
            return
        try:
            self._report(record)
        except Exception as error:
            warn(f"Monlight cannot report a log record: {type(error).__name__}")

    def _report(self, record: logging.LogRecord) -> None:
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        text = record.getMessage()
        exception = record.exc_info[1] if record.exc_info else None
        if exception is not None:
            context = {"extra": {**given, "logger": record.name, "log_message": text}}
            self._errors._report_once(exception, "log", context, level_of(record.levelno))
            return
        self._errors._put(_describe(record, text), {"extra": given}, level_of(record.levelno))


def _describe(record: logging.LogRecord, text: str) -> dict[str, Any]:
    at = f'  File "{record.pathname}", line {record.lineno}, in {record.funcName}\n'
    stack = f"{record.stack_info}\n" if record.stack_info else f"Stack (most recent call last):\n{at}"
    return {
        "exception_type": clean_text(record.name, TYPE_CHARS_MAX),
        "message": clean_text(text, MESSAGE_CHARS_MAX),
        "traceback": clean_text(stack, TRACEBACK_CHARS_MAX),
    }


def level_of(number: int) -> Level:
    """The tracker's word for a level of `logging`."""
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
