"""Makes an exception into what the error tracker takes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import islice
from types import TracebackType
from typing import Any, Literal, TypeAlias

from monlight._clean import clean, clean_text, cut_middle, to_json
from monlight._secrets import scrub_headers, scrub_url

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

# The tracker's limits.
TYPE_CHARS_MAX = 200
URL_CHARS_MAX = 2_000
METHOD_CHARS_MAX = 16

MESSAGE_CHARS_MAX = 10_000
TRACEBACK_CHARS_MAX = 100_000
HEADERS_MAX = 64
USER_CHARS_MAX = 200
# The tracker takes 262,144. A report that is larger loses its surroundings, which then says so.
BODY_BYTES_MAX = 250_000
LEAN_MESSAGE_CHARS_MAX = 2_000
LEAN_TRACEBACK_CHARS_MAX = 20_000

LOCALS_FRAMES_MAX = 5


def describe_exception(exception: BaseException, *, include_locals: bool) -> dict[str, Any]:
    """Type, message and traceback, with causes, contexts and members of groups as Python prints them."""
    described: dict[str, Any] = {
        "exception_type": clean_text(type(exception).__qualname__, TYPE_CHARS_MAX),
        "message": clean_text(_message(exception), MESSAGE_CHARS_MAX),
        "traceback": clean_text(cut_middle(_traceback(exception), TRACEBACK_CHARS_MAX), TRACEBACK_CHARS_MAX),
    }
    if include_locals:
        described["extra"] = {"locals": _locals(exception.__traceback__)}
    return described


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:
        return f"<{type(exception).__qualname__} without a message>"


def _traceback(exception: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(exception))
    except Exception:
        # An attribute of the exception raises, or the chain is longer than the stack.
        frames = "".join(traceback.format_tb(exception.__traceback__, limit=-20))
        return f"Traceback (most recent call last):\n{frames}{type(exception).__qualname__}: {_message(exception)}\n"


def _locals(innermost: TracebackType | None) -> dict[str, Any]:
    """The variables of the innermost frames, innermost first."""
    walked = [frame for frame, _ in traceback.walk_tb(innermost)][-LOCALS_FRAMES_MAX:]
    return {
        f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}": clean(frame.f_locals)
        for frame in reversed(walked)
    }


def build(
    described: Mapping[str, Any],
    request_context: Mapping[str, Any] | None,
    *,
    project: str,
    environment: str | None,
    release: str | None,
    level: Level | None,
    excluded_headers: frozenset[str],
    at: float,
) -> bytes:
    """The body of a report; `at` is when it happened, in seconds since 1970."""
    report: dict[str, Any] = {
        "project": project,
        **described,
        **{name: value for name, value in _request(request_context or {}, excluded_headers).items() if value},
        "timestamp": datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    given = clean((request_context or {}).get("extra"))
    if given:
        report["extra"] = {**report.get("extra", {}), **(given if isinstance(given, dict) else {"value": given})}
    named = {"environment": environment, "release": release, "level": level}
    report.update({name: value for name, value in named.items() if value is not None})
    body = to_json(report)
    return body if len(body) <= BODY_BYTES_MAX else to_json(_lean(report))


def _request(context: Mapping[str, Any], excluded_headers: frozenset[str]) -> dict[str, Any]:
    """What is known of the request that raised, without its secrets."""
    request: dict[str, Any] = {}
    if context.get("request_url") is not None:
        request["request_url"] = clean_text(scrub_url(str(context["request_url"])), URL_CHARS_MAX)
    if context.get("request_method") is not None:
        request["request_method"] = clean_text(str(context["request_method"]), METHOD_CHARS_MAX)
    headers = context.get("request_headers")
    if isinstance(headers, Mapping):
        first = dict(islice(headers.items(), HEADERS_MAX))
        request["request_headers"] = clean(scrub_headers(first, excluded_headers))
    if context.get("user_id") is not None:
        request["user_id"] = clean_text(str(context["user_id"]), USER_CHARS_MAX)
    return request


def _lean(report: dict[str, Any]) -> dict[str, Any]:
    lean = {name: value for name, value in report.items() if name not in ("request_headers", "extra")}
    lean["message"] = clean_text(report["message"], LEAN_MESSAGE_CHARS_MAX)
    lean["traceback"] = cut_middle(report["traceback"], LEAN_TRACEBACK_CHARS_MAX)
    lean["extra"] = {"monlight": "The report was too large; headers and extra were left out."}
    return lean
