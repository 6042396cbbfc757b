"""Logging handler that reports log records as errors."""

from __future__ import annotations

import logging

from monlight._dedupe import REPORTED_TO_ATTRIBUTE, claim_record
from monlight._report import FINGERPRINT_ATTRIBUTE, STACK_HEADING, ErrorFields, Level, ReportDetails
from monlight._safety import is_sending
from monlight.error_client import ErrorClient

# Attributes of every log record. Any other attribute was passed by the application in `extra`.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    REPORTED_TO_ATTRIBUTE,
    FINGERPRINT_ATTRIBUTE,
}


class MonlightHandler(logging.Handler):
    """Logging handler that sends log records to the error tracker.

    A record with an exception is reported as that exception. Any other record is reported with the logger's name as its
    type, and grouped by the source line that logged it, or by `extra={"monlight_fingerprint": ["…"]}`.

    Args:
        error_client: Client that sends the reports.
        level: Minimum level of the records to report. Default: `logging.ERROR`.
    """

    def __init__(self, error_client: ErrorClient, level: int = logging.ERROR) -> None:
        super().__init__(level)
        self._errors = error_client

    def emit(self, record: logging.LogRecord) -> None:
        """Queues a report of the record. Ignores records of this package."""
        if is_sending() or record.name.partition(".")[0] == "monlight":
            return
        try:
            self._report(record)
        except Exception:
            self.handleError(record)

    def _report(self, record: logging.LogRecord) -> None:
        if not claim_record(record, f"{self._errors.base_url} {self._errors.project}"):
            return
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        try:
            message = record.getMessage()
        except Exception:
            # The arguments do not fit the format.
            message = str(record.msg)
            extra["log_args"] = record.args
        details = ReportDetails(tracker_level(record.levelno), vars(record).get(FINGERPRINT_ATTRIBUTE))
        exception = record.exc_info[1] if record.exc_info else None
        if exception is not None:
            context = {"extra": {**extra, "logger": record.name, "log_message": message}}
            self._errors._report_once(exception, "log", context, details, record)
            return
        self._errors._enqueue(_describe_record(record, message), {"extra": extra}, details, {"log_record": record})


def _describe_record(record: logging.LogRecord, message: str) -> ErrorFields:
    """Describes a record without an exception."""
    frame = f'  File "{record.pathname}", line {record.lineno}, in {record.funcName}\n'
    stack = f"{record.stack_info}\n" if record.stack_info else f"{STACK_HEADING}\n{frame}"
    return ErrorFields(record.name, message, stack)


def tracker_level(level: int) -> Level:
    """Converts a numeric level of `logging` to a level of the error tracker."""
    if level >= logging.CRITICAL:
        return "critical"
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warning"
    return "info" if level >= logging.INFO else "debug"
