"""Error reports: conversion of an exception and its request context to the body of `POST /api/errors`."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, Literal, TypeAlias

from monlight._request import request_fields
from monlight._safety import log_debug
from monlight._scrub import Scrubber
from monlight._serialize import (
    Serializer,
    describe_type,
    encode_json,
    sanitize_string,
    sanitize_strings,
    scalar_text,
    truncate_middle,
)

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

# Attribute of an exception or a log record that decides about the group of its report.
FINGERPRINT_ATTRIBUTE = "monlight_fingerprint"
FINGERPRINT_PARTS_MAX = 10
FINGERPRINT_PART_CHARS_MAX = 200
TYPE_CHARS_MAX = 200
MESSAGE_CHARS_MAX = 10_000
TRACEBACK_CHARS_MAX = 100_000
# Maximum lengths of strings, most of which are limits of the error tracker. Parts without a limit are objects.
PART_CHARS_MAX = {
    "project": 100,
    "exception_type": TYPE_CHARS_MAX,
    "environment": 100,
    "release": 100,
    "level": 16,
    "timestamp": 64,
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
# A long stack would take long to format, and the innermost frames show where the message comes from.
MESSAGE_FRAMES_MAX = 20
MESSAGE_TYPE = "Message"
# First line of a stack that is not that of an exception, as in the module logging.
STACK_HEADING = "Stack (most recent call last):"
_LEVELS: dict[str, Level] = {
    "debug": "debug",
    "info": "info",
    "log": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "critical": "critical",
    "fatal": "critical",
}


@dataclass(frozen=True)
class ErrorFields:
    """Type, message and traceback of an error, and the local variables of its frames; all with their secrets.

    `fingerprint` is the attribute `monlight_fingerprint`, of any type.
    """

    exception_type: str
    message: str
    traceback: str
    locals: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    fingerprint: object = None


@dataclass(frozen=True)
class ReportDetails:
    """Data that a call adds to one report: its severity, its fingerprint of any type, and its tags."""

    level: Level | None = None
    fingerprint: object = None
    tags: Mapping[str, str] = field(default_factory=dict)


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
        _own_fingerprint(exception),
    )


def _own_fingerprint(exception: BaseException) -> object:
    """Returns the attribute `monlight_fingerprint` of an exception or its class, without running code of the class."""
    attributes: dict[str, object] = vars(BaseException)["__dict__"].__get__(exception)
    if FINGERPRINT_ATTRIBUTE in attributes:
        return attributes[FINGERPRINT_ATTRIBUTE]
    owners = (base for base in type(exception).__mro__ if FINGERPRINT_ATTRIBUTE in vars(base))
    return next((vars(base)[FINGERPRINT_ATTRIBUTE] for base in owners), None)


def describe_message(message: object, frame: FrameType) -> ErrorFields:
    """Describes a message, with the innermost `MESSAGE_FRAMES_MAX` frames of the stack of `frame`."""
    stack = traceback.format_list(traceback.extract_stack(frame, limit=MESSAGE_FRAMES_MAX))
    text = scalar_text(message)
    return ErrorFields(
        MESSAGE_TYPE, describe_type(message) if text is None else text, f"{STACK_HEADING}\n{''.join(stack)}"
    )


def level_named(name: object) -> Level | None:
    """Returns the level with this name or alias, in upper or lower case, or None. `fatal` means `critical`."""
    text = (scalar_text(name) or "").lower()
    level = _LEVELS.get(text)
    if level is None and name is not None:
        log_debug(f"monlight: unknown level {text[:50]!r}; expected one of {', '.join(_LEVELS)}")
    return level


def exc_info_of(exception: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Returns an exception in the form of `sys.exc_info()`."""
    return type(exception), exception, _traceback_of(exception)


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
    details: ReportDetails,
    timestamp: float,
    scrubber: Scrubber,
) -> dict[str, Any]:
    """Builds a report as the error tracker receives it, without secrets.

    Args:
        error: Result of `describe_exception`, or the same fields of a log record.
        request_context: Context of the request, see `ErrorClient.capture_exception`.
        settings: Settings of the client.
        details: What the call adds to the report.
        timestamp: Time of the error in seconds since 1970.
        scrubber: A new scrubber, which knows the secrets of the report afterwards.
    """
    # Twice the maximum length, so that a copy of a secret at the end is complete when it is removed.
    parts: dict[str, Any] = {
        "message": scrubber.text(error.message[: 2 * MESSAGE_CHARS_MAX]),
        "traceback": scrubber.traceback(truncate_middle(error.traceback, 2 * TRACEBACK_CHARS_MAX)),
        **request_fields(request_context, settings.excluded_headers, scrubber),
        "extra": _extra(error.locals, request_context.get("extra"), details.tags, Serializer(scrubber)),
        "fingerprint": fingerprint_parts(
            error.fingerprint if details.fingerprint is None else details.fingerprint, scrubber
        ),
    }
    report = {
        "project": settings.project,
        "exception_type": sanitize_string(error.exception_type, TYPE_CHARS_MAX),
        **finish_parts(parts, scrubber),
        "timestamp": datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    optional = {"environment": settings.environment, "release": settings.release, "level": details.level}
    report.update({name: value for name, value in optional.items() if value})
    return report


def fingerprint_parts(fingerprint: object, scrubber: Scrubber) -> list[str]:
    """Returns the texts of a fingerprint, which is a list or a single value. What has no text is left out."""
    items = fingerprint if issubclass(type(fingerprint), (list, tuple)) else (fingerprint,)
    texts = [scalar_text(item) for item in islice(items, FINGERPRINT_PARTS_MAX)]  # type: ignore[call-overload]
    if fingerprint is not None and None in texts:
        log_debug(f"monlight: a fingerprint of type {type(fingerprint).__name__} has parts that cannot be used")
    return [scrubber.text(text[: 2 * FINGERPRINT_PART_CHARS_MAX]) for text in texts if text]


def finish_parts(parts: Mapping[str, Any], scrubber: Scrubber) -> dict[str, Any]:
    """Removes the copies of secrets from the parts of a report, and truncates them.

    Call it when the scrubber knows all secrets. Leaves out empty parts, except for required ones.
    """
    finished = {}
    for name, part in parts.items():
        if part or name in REQUIRED_PARTS:
            is_traceback = name == "traceback"
            remove_copies = scrubber.remove_copies_from_traceback if is_traceback else scrubber.remove_copies
            finished[name] = _truncate_part(name, remove_copies(part))
    return finished


def encode_report(report: dict[str, Any]) -> bytes:
    """Encodes a report as JSON of at most `BODY_BYTES_MAX` bytes."""
    body = encode_json(report)
    return body if len(body) <= BODY_BYTES_MAX else encode_json(_truncate_report(report))


def _truncate_part(name: str, part: Any) -> Any:
    if name == "fingerprint":
        return [sanitize_string(text, FINGERPRINT_PART_CHARS_MAX) for text in part]
    if name == "traceback":
        part = truncate_middle(part, TRACEBACK_CHARS_MAX)
    chars_max = PART_CHARS_MAX.get(name)
    return sanitize_strings(part) if chars_max is None else sanitize_string(part, chars_max)


def _extra(
    local_variables: Mapping[str, Mapping[str, object]],
    extra: object,
    tags: Mapping[str, str],
    serializer: Serializer,
) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    if local_variables:
        converted["locals"] = {frame: serializer.convert(variables) for frame, variables in local_variables.items()}
    if extra is not None:
        members = serializer.convert(extra)
        converted.update(members if isinstance(members, dict) else {"value": members})
    if tags:
        own_tags = converted.get("tags", {})
        converted["tags"] = {
            **serializer.convert(tags),
            **(own_tags if isinstance(own_tags, dict) else {"value": own_tags}),
        }
    return converted


def _truncate_report(report: dict[str, Any]) -> dict[str, Any]:
    """Returns the report without headers and extra data, and with a shorter message and traceback."""
    log_debug("monlight: report is too large: its headers and extra data are dropped, its traceback is truncated")
    truncated = {name: value for name, value in report.items() if name not in ("request_headers", "extra")}
    truncated["message"] = sanitize_string(report["message"], TRUNCATED_MESSAGE_CHARS_MAX)
    truncated["traceback"] = truncate_middle(report["traceback"], TRUNCATED_TRACEBACK_CHARS_MAX)
    truncated["extra"] = {"monlight": "Report too large: request headers and extra data were removed."}
    return truncated
