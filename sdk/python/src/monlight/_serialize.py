"""Conversion of arbitrary Python values to bounded JSON, without secrets and without running code of the application.

`repr`, `str`, iteration and attributes of an object may run a database query, take seconds or raise, and nothing can
interrupt them. So only values of known types are converted; any other object is represented by the name of its type.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from time import thread_time
from types import FunctionType, MethodType
from typing import Any
from urllib.parse import ParseResult, SplitResult
from uuid import UUID

from monlight._fields import fields_of
from monlight._removed import REMOVED, VALUE_CHARS_MAX
from monlight._safety import log_warning
from monlight._scrub import Scrubber
from monlight._secrets import is_private_name

STRING_CHARS_MAX = 2_000
KEY_CHARS_MAX = 200
DEPTH_MAX = 8
ITEMS_MAX = 100
# Limits of one call of `Serializer.convert`, and of all calls together.
VALUES_MAX = 1_000
CPU_TIME_MAX_S = 0.1
_VALUES_PER_TIME_CHECK = 64
_SECRET_DEPTH_MAX = 3
# Larger integers become strings, because JSON parsers that read every number as a 64-bit float would round them
# (RFC 8259, section 6).
SAFE_INTEGER_MAX = 2**53
# Conversion of larger integers to decimal digits takes long and is limited by the interpreter.
PRINTED_INTEGER_BITS_MAX = 1_024

OMITTED = "…"
_FIRST_CHARS = slice(VALUE_CHARS_MAX)
_PRINTED_TYPES = {
    date, datetime, time, timedelta, timezone, Decimal, UUID, complex, range, PosixPath, PurePosixPath, PureWindowsPath,
    WindowsPath,
}  # fmt: skip
_SPLIT_URL_TYPES = (SplitResult, ParseResult)
_PAIR_NAME = re.compile(r"[\w.\-]{1,100}")
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_BINARY_TYPES = (bytes, bytearray, memoryview)
_LIST_TYPES = (list, tuple, set, frozenset, deque)
# Items of mappings that describe a name and its value: `{"name": "password", "value": "…"}`.
_NAME_KEYS = ("name", "key", "header", "k")
_VALUE_KEYS = ("value", "val", "v")


def sanitize_string(value: str, chars_max: int) -> str:
    """Truncates a string to `chars_max` characters and replaces NUL and lone surrogates, which the services reject."""
    if len(value) > chars_max:
        value = value[: chars_max - 1] + "…"
    if "\0" in value:
        value = value.replace("\0", "\ufffd")
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def truncate_middle(value: str, chars_max: int) -> str:
    """Truncates a string to `chars_max` characters: keeps the first quarter and the end, joined by an ellipsis line."""
    if len(value) <= chars_max:
        return value
    ellipsis = "\n[…]\n"
    head_chars = chars_max // 4
    tail_chars = chars_max - head_chars - len(ellipsis)
    return value[:head_chars] + ellipsis + value[len(value) - tail_chars :]


def sanitize_strings(value: Any) -> Any:
    """Applies `sanitize_string` to all strings of a JSON-compatible value."""
    if isinstance(value, str):
        return sanitize_string(value, STRING_CHARS_MAX)
    if isinstance(value, dict):
        return {sanitize_string(key, KEY_CHARS_MAX): sanitize_strings(item) for key, item in value.items()}
    return [sanitize_strings(item) for item in value] if isinstance(value, list) else value


def scalar_text(value: Any) -> str | None:
    """Returns a string, number, binary string or similar single value as a string, and None for any other object."""
    kind = type(value)
    if kind is str:
        return str(value[_FIRST_CHARS])
    if issubclass(kind, str):
        # Slices before it copies, and returns a `str` also for an instance of a subclass.
        return str.__getitem__(value, _FIRST_CHARS)
    if kind in (bytes, bytearray):
        return bytes(value[_FIRST_CHARS]).decode("utf-8", "replace")
    if issubclass(kind, (int, float)):
        return str(value if kind is bool else _convert_number(value))
    return str(value) if kind in _PRINTED_TYPES else None


def sanitize_name(name: object, chars_max: int) -> str | None:
    """Returns the name of a project, environment or release as a string, and None if `str` fails."""
    try:
        return None if name is None else sanitize_string(str(name), chars_max)
    except Exception as error:
        log_warning(f"monlight: failed to convert a name of type {type(name).__name__}: {type(error).__name__}")
        return None


def encode_json(value: object) -> bytes:
    """Encodes a JSON-compatible value (see `Serializer`) as compact UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


class Serializer:
    """Converts the values of one report to JSON-compatible values.

    Strings have up to twice their maximum length, so that a copy of a secret that is removed later is never truncated;
    see `sanitize_strings`.
    """

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._ancestors: set[int] = set()
        self._values_left = 0
        self._deadline_s = thread_time() + CPU_TIME_MAX_S

    def convert(self, value: object) -> Any:
        """Returns a JSON-compatible copy of a value, with limited depth, strings and number of items."""
        if thread_time() > self._deadline_s:
            return OMITTED
        self._values_left = VALUES_MAX
        return self._convert(value, DEPTH_MAX)

    def _convert(self, value: Any, depth_left: int) -> Any:
        self._values_left -= 1
        if self._values_left % _VALUES_PER_TIME_CHECK == 0 and thread_time() > self._deadline_s:
            self._values_left = 0
        # `isinstance` would also read `value.__class__`, which resolves lazy objects.
        kind = type(value)
        if value is None or kind is bool:
            return value
        if issubclass(kind, str):
            return self._scrubber.text(str.__getitem__(value, _FIRST_CHARS)[: 2 * STRING_CHARS_MAX])
        if issubclass(kind, (int, float)):
            return _convert_number(value)
        if kind in _PRINTED_TYPES:
            return str(value)
        try:
            return self._convert_object(value, depth_left)
        except Exception:
            # Another thread modifies a container during iteration, or the stack is exhausted.
            return f"<{kind.__qualname__}: cannot be read>"

    def _convert_object(self, value: Any, depth_left: int) -> Any:
        if type(value) in _BINARY_TYPES:
            return self._convert_binary(value)
        if type(value) in _SPLIT_URL_TYPES:
            return self._scrubber.url(value.geturl())
        convert = self._converter(value)
        if convert is None:
            return describe_type(value)
        if id(value) in self._ancestors:
            return "<circular reference>"
        if depth_left == 0 or self._values_left <= 0:
            return OMITTED
        self._ancestors.add(id(value))
        try:
            return convert(value, depth_left - 1)
        finally:
            self._ancestors.discard(id(value))

    def _convert_binary(self, value: Any) -> str:
        try:
            return self._scrubber.text(bytes(value[: 2 * STRING_CHARS_MAX]).decode())
        except (ValueError, TypeError):
            return f"<{type(value).__name__}, {len(value)} items>"

    def _converter(self, value: Any) -> Callable[[Any, int], Any] | None:
        """Returns the method that converts the items of a value, or None if its type is not known."""
        kind = type(value)
        if issubclass(kind, dict):
            return None if is_request_dict(value) else self._convert_dict
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._convert_fields
        if issubclass(kind, _LIST_TYPES) or kind in _VIEWS:
            return self._convert_list
        return None if fields_of(value) is None else self._convert_fields

    def _convert_fields(self, value: Any, depth_left: int) -> Any:
        fields = fields_of(value) or {}
        return {"<type>": describe_type(value), **self._convert_dict(fields, depth_left)}

    def _convert_dict(self, mapping: dict[Any, Any], depth_left: int) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        # Not `mapping.items()`, which a subclass may override.
        first_items = list(islice(dict.items(mapping), ITEMS_MAX))
        private_value_key = _private_value_key(first_items)
        for key, value in first_items:
            name = self._key(key)
            if is_private_name(name) or (type(key) is str and key == private_value_key):
                converted[name] = self._remove(name, value)
            else:
                converted[name] = self._convert(value, depth_left)
        if dict.__len__(mapping) > ITEMS_MAX:
            converted[OMITTED] = f"{dict.__len__(mapping) - ITEMS_MAX} more"
        return converted

    def _key(self, key: object) -> str:
        text = scalar_text(key)
        text = str(self._convert(key, 2)) if text is None else text
        return self._scrubber.text(text[: 2 * KEY_CHARS_MAX])

    def _convert_list(self, items: Any, depth_left: int) -> list[Any]:
        kind = type(items)
        # The iterator of the base type, because a subclass, such as a lazy list, may override `__iter__`.
        base: Any = next((base for base in _LIST_TYPES if issubclass(kind, base)), kind)
        first_items = list(islice(base.__iter__(items), ITEMS_MAX))
        length = base.__len__(items)
        if kind in (list, tuple) and _is_private_pair(first_items):
            name = scalar_text(first_items[0]) or ""
            self._scrubber.remember_second_of_pair(name, scalar_text(first_items[1]) or "")
            return [name, REMOVED]
        are_pairs = all(_is_pair(item) for item in first_items)
        converted = [self._convert_item(item, are_pairs, depth_left) for item in first_items]
        self._remove_option_values(first_items, converted)
        return converted if length <= ITEMS_MAX else [*converted, f"{OMITTED} {length - ITEMS_MAX} more"]

    def _convert_item(self, item: Any, are_pairs: bool, depth_left: int) -> Any:
        """Converts an item of a list. A list of pairs is treated like a mapping."""
        if are_pairs and _is_private_pair(item):
            name = scalar_text(item[0]) or ""
            return [name, self._remove(name, item[1])]
        return self._convert(item, depth_left)

    def _remove_option_values(self, items: list[Any], converted: list[Any]) -> None:
        """Removes the item after a command line option with a private name: `["--password", "…"]`."""
        for index, item in enumerate(items[:-1]):
            if type(item) is str and item.startswith("-") and "=" not in item and is_private_name(item):
                converted[index + 1] = self._remove(item, items[index + 1])

    def _remove(self, name: str, value: Any, depth_left: int = _SECRET_DEPTH_MAX) -> str:
        """Removes a value, and remembers the strings in it."""
        text = scalar_text(value)
        if text is not None and type(value) is not bool:
            self._scrubber.remove(name, text)
        elif depth_left > 0 and issubclass(type(value), dict) and not is_request_dict(value):
            for key, item in islice(dict.items(value), ITEMS_MAX):
                self._remove(f"{name} {scalar_text(key)}", item, depth_left - 1)
        elif depth_left > 0 and type(value) in (list, tuple, set, frozenset):
            for item in islice(value, ITEMS_MAX):
                self._remove(name, item, depth_left - 1)
        return REMOVED


def _convert_number(value: Any) -> Any:
    if issubclass(type(value), float):
        number = float.__float__(value)
        return number if math.isfinite(number) else repr(number)
    number = int.__index__(value)
    if -SAFE_INTEGER_MAX <= number <= SAFE_INTEGER_MAX:
        return number
    bits = number.bit_length()
    return str(number) if bits <= PRINTED_INTEGER_BITS_MAX else f"<int, {bits} bits>"


def _is_pair(value: object) -> bool:
    return type(value) in (list, tuple) and len(value) == 2 and type(value[0]) in (str, bytes)  # type: ignore[arg-type, index]


def _is_private_pair(value: Any) -> bool:
    name = scalar_text(value[0]) if _is_pair(value) else None
    return name is not None and _PAIR_NAME.fullmatch(name) is not None and is_private_name(name)


def _private_value_key(items: list[tuple[Any, Any]]) -> str | None:
    """Returns the key of the value if the items are a name that is private and its value."""
    if len(items) > 10:
        return None
    by_key = {key: value for key, value in items if type(key) is str}
    name = next((scalar_text(by_key[key]) for key in _NAME_KEYS if key in by_key), None)
    return next((key for key in _VALUE_KEYS if key in by_key), None) if name and is_private_name(name) else None


def is_request_dict(value: Any) -> bool:
    """Whether a dictionary is the environ of WSGI or the scope of ASGI, which contain a whole request."""
    has_key = dict.__contains__
    is_scope = has_key(value, "type") and (has_key(value, "asgi") or has_key(value, "query_string"))
    return has_key(value, "REQUEST_METHOD") or is_scope


def describe_type(value: object) -> str:
    """Describes an object that is not converted, by the name of its type or function."""
    kind = type(value)
    if issubclass(kind, Enum):
        return f"{kind.__qualname__}.{vars(value).get('_name_')}"
    if issubclass(kind, type):
        return f"<class {value.__module__}.{value.__qualname__}>"  # type: ignore[attr-defined]
    function = value.__func__ if kind is MethodType else value  # type: ignore[attr-defined]
    if type(function) is FunctionType:
        return f"<function {function.__module__}.{function.__qualname__}>"
    return f"<{kind.__module__}.{kind.__qualname__}>"
