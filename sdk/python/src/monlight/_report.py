"""Error reports: conversion of an exception and its request context to the body of `POST /api/errors`."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Literal, TypeAlias

from monlight._request import request_fields
from monlight._safety import log_debug
from monlight._scrub import Scrubber
from monlight._serialize import Serializer, encode_json, sanitize_string, sanitize_strings, truncate_middle

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

TYPE_CHARS_MAX = 200
MESSAGE_CHARS_MAX = 10_000
TRACEBACK_CHARS_MAX = 100_000
# Maximum lengths of strings, most of which are limits of the error tracker. Parts without a limit are objects.
PART_CHARS_MAX = {
    "message": MESSAGE_CHARS_MAX,
    "traceback": TRACEBACK_CHARS_MAX,
    "request_url": 2_000,
    "request_method": 16,
    "user_id": 200,
}
REQUIRED_PARTS = ("message", "traceback")
# The error tracker accepts bodies of up to 262,144 bytes. A larger report is truncated to the limits below.
BODY_BYTES_MAX = 250_000
TRUNCATED_MESSAGE_CHARS_MAX = 2_000
TRUNCATED_TRACEBACK_CHARS_MAX = 20_000

LOCALS_FRAMES_MAX = 5


@dataclass(frozen=True)
class ErrorFields:
    """Type, message and traceback of an error, and the local variables of its frames; all with their secrets."""

    exception_type: str
    message: str
    traceback: str
    locals: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportSettings:
    """Settings of a client that are part of each report.

    `excluded_headers` are in lower case. `known_secrets` are removed from every report.
    """

    project: str
    environment: str | None
    release: str | None
    excluded_headers: frozenset[str]
    known_secrets: frozenset[str]


def describe_exception(exception: BaseException, *, include_locals: bool) -> ErrorFields:
    """Describes an exception. The traceback has the format that Python prints, with causes, contexts and the members of
    exception groups."""
    return ErrorFields(
        type(exception).__qualname__,
        _exception_message(exception),
        _format_traceback(exception),
        dict(_local_variables(_traceback_of(exception))) if include_locals else {},
    )


def _traceback_of(exception: BaseException) -> TracebackType | None:
    # Not `exception.__traceback__`, which fails if the class has a `__getattribute__` that raises.
    own_traceback: TracebackType | None = vars(BaseException)["__traceback__"].__get__(exception)
    return own_traceback


def _exception_message(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException:
        # Also SystemExit and KeyboardInterrupt, like the module traceback.
        return f"<{type(exception).__qualname__}: str failed>"


def _format_traceback(exception: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(exception))
    except BaseException:
        # An attribute of the exception raises, or the chain of causes is longer than the recursion limit.
        frames = "".join(traceback.format_tb(_traceback_of(exception), limit=-20))
        last_line = f"{type(exception).__qualname__}: {_exception_message(exception)}"
        return f"Traceback (most recent call last):\n{frames}{last_line}\n"


def _local_variables(exception_traceback: TracebackType | None) -> Iterator[tuple[str, dict[str, object]]]:
    """Yields the local variables of the innermost `LOCALS_FRAMES_MAX` frames, innermost first."""
    frames = [frame for frame, _ in traceback.walk_tb(exception_traceback)][-LOCALS_FRAMES_MAX:]
    for frame in reversed(frames):
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}", dict(frame.f_locals)


def build_report(
    error: ErrorFields,
    request_context: Mapping[str, Any],
    settings: ReportSettings,
    level: Level | None,
    timestamp: float,
) -> bytes:
    """Builds the JSON body of a report, at most `BODY_BYTES_MAX` bytes, without secrets.

    Args:
        error: Result of `describe_exception`, or the same fields of a log record.
        request_context: Context of the request, see `ErrorClient.capture_exception`.
        settings: Settings of the client.
        level: Severity; None to leave it out.
        timestamp: Time of the error in seconds since 1970.
    """
    scrubber = Scrubber(settings.known_secrets)
    # Twice the maximum length, so that a copy of a secret at the end is complete when it is removed.
    parts: dict[str, Any] = {
        "message": scrubber.text(error.message[: 2 * MESSAGE_CHARS_MAX]),
        "traceback": scrubber.traceback(truncate_middle(error.traceback, 2 * TRACEBACK_CHARS_MAX)),
        **request_fields(request_context, settings.excluded_headers, scrubber),
        "extra": _extra(error.locals, request_context.get("extra"), Serializer(scrubber)),
    }
    # Only now are all secrets known.
    parts = {
        name: scrubber.remove_copies_from_traceback(part) if name == "traceback" else scrubber.remove_copies(part)
        for name, part in parts.items()
    }
    report = {
        "project": settings.project,
        "exception_type": sanitize_string(error.exception_type, TYPE_CHARS_MAX),
        **{name: _truncate_part(name, part) for name, part in parts.items() if part or name in REQUIRED_PARTS},
        "timestamp": datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    optional = {"environment": settings.environment, "release": settings.release, "level": level}
    report.update({name: value for name, value in optional.items() if value})
    body = encode_json(report)
    return body if len(body) <= BODY_BYTES_MAX else encode_json(_truncate_report(report))


def _truncate_part(name: str, part: Any) -> Any:
    if name == "traceback":
        part = truncate_middle(part, TRACEBACK_CHARS_MAX)
    chars_max = PART_CHARS_MAX.get(name)
    return sanitize_strings(part) if chars_max is None else sanitize_string(part, chars_max)


def _extra(
    local_variables: Mapping[str, Mapping[str, object]], extra: object, serializer: Serializer
) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    if local_variables:
        converted["locals"] = {frame: serializer.convert(variables) for frame, variables in local_variables.items()}
    if extra is not None:
        members = serializer.convert(extra)
        converted.update(members if isinstance(members, dict) else {"value": members})
    return converted


def _truncate_report(report: dict[str, Any]) -> dict[str, Any]:
    """Returns the report without headers and extra data, and with a shorter message and traceback."""
    log_debug("monlight: report is too large: its headers and extra data are dropped, its traceback is truncated")
    truncated = {name: value for name, value in report.items() if name not in ("request_headers", "extra")}
    truncated["message"] = sanitize_string(report["message"], TRUNCATED_MESSAGE_CHARS_MAX)
    truncated["traceback"] = truncate_middle(report["traceback"], TRUNCATED_TRACEBACK_CHARS_MAX)
    truncated["extra"] = {"monlight": "Report too large: request headers and extra data were removed."}
    return truncated
