"""Error reports: conversion of an exception and its request context to the body of `POST /api/errors`."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import islice
from types import TracebackType
from typing import Any, Literal, TypeAlias

from monlight._secrets import scrub_headers, scrub_url
from monlight._serialize import encode_json, sanitize_string, to_json_value, truncate_middle

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

# Limits of the error tracker.
TYPE_CHARS_MAX = 200
URL_CHARS_MAX = 2_000
METHOD_CHARS_MAX = 16

MESSAGE_CHARS_MAX = 10_000
TRACEBACK_CHARS_MAX = 100_000
HEADERS_MAX = 64
USER_CHARS_MAX = 200
# The error tracker accepts bodies of up to 262,144 bytes. A larger report is truncated to the limits below.
BODY_BYTES_MAX = 250_000
TRUNCATED_MESSAGE_CHARS_MAX = 2_000
TRUNCATED_TRACEBACK_CHARS_MAX = 20_000

LOCALS_FRAMES_MAX = 5


def describe_exception(exception: BaseException, *, include_locals: bool) -> dict[str, Any]:
    """Returns the report fields of an exception: type, message and traceback, and optionally local variables.

    The traceback has the format that Python prints, with causes, contexts and the members of exception groups.
    """
    fields: dict[str, Any] = {
        "exception_type": sanitize_string(type(exception).__qualname__, TYPE_CHARS_MAX),
        "message": sanitize_string(_exception_message(exception), MESSAGE_CHARS_MAX),
        "traceback": sanitize_string(
            truncate_middle(_format_traceback(exception), TRACEBACK_CHARS_MAX), TRACEBACK_CHARS_MAX
        ),
    }
    if include_locals:
        fields["extra"] = {"locals": _local_variables(exception.__traceback__)}
    return fields


def _exception_message(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:
        return f"<{type(exception).__qualname__}: str failed>"


def _format_traceback(exception: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(exception))
    except Exception:
        # An attribute of the exception raises, or the chain of causes is longer than the recursion limit.
        frames = "".join(traceback.format_tb(exception.__traceback__, limit=-20))
        last_line = f"{type(exception).__qualname__}: {_exception_message(exception)}"
        return f"Traceback (most recent call last):\n{frames}{last_line}\n"


def _local_variables(exception_traceback: TracebackType | None) -> dict[str, Any]:
    """Returns the local variables of the innermost `LOCALS_FRAMES_MAX` frames, innermost first."""
    frames = [frame for frame, _ in traceback.walk_tb(exception_traceback)][-LOCALS_FRAMES_MAX:]
    return {
        f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}": to_json_value(frame.f_locals)
        for frame in reversed(frames)
    }


def build_report(
    exception_fields: Mapping[str, Any],
    request_context: Mapping[str, Any] | None,
    *,
    project: str,
    environment: str | None,
    release: str | None,
    level: Level | None,
    excluded_headers: frozenset[str],
    timestamp: float,
) -> bytes:
    """Builds the JSON body of a report, at most `BODY_BYTES_MAX` bytes.

    Args:
        exception_fields: Result of `describe_exception`, or the same fields of a log record.
        request_context: Context of the request, see `ErrorClient.capture_exception`.
        project: Name of the project.
        environment: Name of the environment; None to leave it out.
        release: Version of the application; None to leave it out.
        level: Severity; None to leave it out.
        excluded_headers: Names of request headers to leave out, in lower case.
        timestamp: Time of the error in seconds since 1970.
    """
    request_fields = _request_fields(request_context or {}, excluded_headers)
    report: dict[str, Any] = {
        "project": project,
        **exception_fields,
        **{name: value for name, value in request_fields.items() if value},
        "timestamp": datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    extra = to_json_value((request_context or {}).get("extra"))
    if extra:
        report["extra"] = {**report.get("extra", {}), **(extra if isinstance(extra, dict) else {"value": extra})}
    optional = {"environment": environment, "release": release, "level": level}
    report.update({name: value for name, value in optional.items() if value is not None})
    body = encode_json(report)
    return body if len(body) <= BODY_BYTES_MAX else encode_json(_truncate(report))


def _request_fields(context: Mapping[str, Any], excluded_headers: frozenset[str]) -> dict[str, Any]:
    """Returns the report fields of the request, without secrets."""
    fields: dict[str, Any] = {}
    if context.get("request_url") is not None:
        fields["request_url"] = sanitize_string(scrub_url(str(context["request_url"])), URL_CHARS_MAX)
    if context.get("request_method") is not None:
        fields["request_method"] = sanitize_string(str(context["request_method"]), METHOD_CHARS_MAX)
    headers = context.get("request_headers")
    if isinstance(headers, Mapping):
        first_headers = dict(islice(headers.items(), HEADERS_MAX))
        fields["request_headers"] = to_json_value(scrub_headers(first_headers, excluded_headers))
    if context.get("user_id") is not None:
        fields["user_id"] = sanitize_string(str(context["user_id"]), USER_CHARS_MAX)
    return fields


def _truncate(report: dict[str, Any]) -> dict[str, Any]:
    """Returns the report without headers and extra data, and with a shorter message and traceback."""
    truncated = {name: value for name, value in report.items() if name not in ("request_headers", "extra")}
    truncated["message"] = sanitize_string(report["message"], TRUNCATED_MESSAGE_CHARS_MAX)
    truncated["traceback"] = truncate_middle(report["traceback"], TRUNCATED_TRACEBACK_CHARS_MAX)
    truncated["extra"] = {"monlight": "Report too large: request headers and extra data were removed."}
    return truncated
