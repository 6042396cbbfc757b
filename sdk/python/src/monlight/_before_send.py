"""The function `before_send` of the application, which changes or drops reports before they are queued."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from monlight import _report
from monlight._request import user_identifier
from monlight._safety import log_debug, log_warning
from monlight._scope import tag_texts
from monlight._scrub import Scrubber
from monlight._serialize import Serializer, scalar_text

# A report as the error tracker receives it, and what it was made from.
Event: TypeAlias = dict[str, Any]
Hint: TypeAlias = dict[str, Any]
BeforeSend: TypeAlias = Callable[[Event, Hint], Event | None]

_TEXT_FIELDS = (
    "project", "exception_type", "message", "traceback", "environment", "release", "level", "request_url",
    "request_method", "user_id",
)  # fmt: skip
# Fields that may not be missing, and those of them that may be empty.
_REQUIRED_FIELDS = ("project", "exception_type", "message", "traceback", "timestamp")
_FIELDS_THAT_MAY_BE_EMPTY = ("message", "traceback")
# The error tracker rejects a report whose time it cannot parse.
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class _State(threading.local):
    is_running = False


_state = _State()


def apply_before_send(before_send: BeforeSend, report: Event, hint: Hint, scrubber: Scrubber) -> Event | None:
    """Returns the report that `before_send` makes of a report, without secrets, or None if it drops the report.

    The report is returned unchanged if `before_send` raises, returns anything but a dictionary or None, or makes this
    report itself, which would recurse without end.
    """
    if _state.is_running:
        return report
    _state.is_running = True
    try:
        event = before_send({"extra": {}, **copy.deepcopy(report)}, hint)
    except Exception as error:
        kind = type(error).__name__
        log_warning(f"monlight: before_send failed: {kind}; the report is sent unchanged", exc_info=True)
        return report
    finally:
        _state.is_running = False
    if event is None:
        log_debug("monlight: before_send returned None; the report is dropped")
        return None
    if not issubclass(type(event), dict):
        if inspect.iscoroutine(event):
            event.close()
        kind = type(event).__name__
        log_warning(f"monlight: before_send returned {kind} instead of a dictionary; the report is sent unchanged")
        return report
    return _repair(event, report, scrubber)


def _repair(event: Event, report: Event, scrubber: Scrubber) -> Event:
    """Converts what `before_send` changed in a report, and removes secrets from it. Unknown members go to `extra`."""
    changed = {str(name): value for name, value in dict.items(event) if not _is_equal(value, report.get(name))}
    kept = {
        name: value
        for name, value in report.items()
        if name in _REQUIRED_FIELDS or (name in event and name not in changed)
    }
    serializer = Serializer(scrubber)
    parts: dict[str, Any] = {}
    added: dict[str, Any] = {}
    for name, value in changed.items():
        if name in _TEXT_FIELDS:
            text = _text(name, value, scrubber)
            if text or (text == "" and name in _FIELDS_THAT_MAY_BE_EMPTY):
                parts[name] = text
        elif name == "timestamp":
            parts[name] = value if type(value) is str and _TIMESTAMP.fullmatch(value) else report[name]
        elif name == "fingerprint":
            parts[name] = _report.fingerprint_parts(value, scrubber)
        elif name == "request_headers":
            parts[name] = _mapping(serializer.convert(value))
        elif name == "user":
            parts["user_id"] = user_identifier(value)
        elif name == "tags":
            added[name] = tag_texts(value)
        elif name != "extra":
            log_debug(f"monlight: before_send set the unknown member {name!r}; it becomes a member of extra")
            added[name] = serializer.convert(value)
    if added or "extra" in changed:
        parts["extra"] = _merged_extra(event.get("extra"), report.get("extra", {}), added, serializer)
    return kept | _report.finish_parts(parts, scrubber)


def _merged_extra(extra: Any, previous: Mapping[str, Any], added: dict[str, Any], serializer: Serializer) -> Event:
    """Returns `extra` with further members. Members that equal the previous ones are not converted again."""
    merged: dict[str, Any] = {}
    if issubclass(type(extra), dict):
        for name, value in dict.items(extra):
            is_kept = name in previous and _is_equal(value, previous[name])
            merged |= {name: value} if is_kept else serializer.convert({name: value})
    elif extra is not None:
        merged["value"] = serializer.convert(extra)
    tags = {**_mapping(merged.get("tags")), **added.pop("tags", {})}
    return {**merged, **added, **({"tags": tags} if tags else {})}


def _is_equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except Exception:
        # For example, an array of numpy.
        return False


def _text(name: str, value: object, scrubber: Scrubber) -> str | None:
    text = scalar_text(value)
    if text is None and value is not None:
        log_debug(f"monlight: before_send set {name} to a value of type {type(value).__name__}, which cannot be used")
    if text is None or name in ("project", "exception_type", "environment", "release", "level"):
        return text
    if name == "traceback":
        return scrubber.traceback(text)
    return scrubber.url(text) if name == "request_url" else scrubber.text(text)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def pickle_function(function: BeforeSend | None) -> bytes | None:
    """Returns a function as a child process can load it, or None if it cannot be pickled, such as a lambda."""
    if function is None:
        return None
    try:
        return pickle.dumps(function)
    except Exception as error:
        kind = type(error).__name__
        log_warning(f"monlight: failed to pass before_send to a child process: {kind}; the child reports without it")
        return None


def unpickle_function(pickled: bytes | None) -> BeforeSend | None:
    """Returns the function of `pickle_function`, or None if this process cannot import it."""
    if pickled is None:
        return None
    try:
        function: BeforeSend = pickle.loads(pickled)
    except Exception as error:
        kind = type(error).__name__
        log_warning(f"monlight: failed to load before_send in a child process: {kind}; the child reports without it")
        return None
    return function
