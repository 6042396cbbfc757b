"""Conversion of arbitrary Python values to bounded JSON that the services accept."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from monlight._secrets import REMOVED, is_secret_name

STRING_CHARS_MAX = 2_000
KEY_CHARS_MAX = 200
DEPTH_MAX = 8
ITEMS_MAX = 100
VALUES_MAX = 1_000
# Larger integers lose precision in JSON parsers that read every number as a 64-bit float (RFC 8259, section 6).
SAFE_INTEGER_MAX = 2**53


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


def safe_repr(value: object) -> str:
    """Returns `repr(value)`, or a placeholder with the type name if `repr` raises."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__qualname__}: repr failed>"


def to_json_value(value: object) -> Any:
    """Returns a JSON-compatible copy of a value.

    Replaces values whose key looks like a secret, limits depth, string lengths and item counts, and converts objects of
    unsupported types with `repr`.
    """
    return _Serializer().convert(value, DEPTH_MAX)


class _Serializer:
    """Conversion of one value, with a budget of `VALUES_MAX` nested values."""

    def __init__(self) -> None:
        self._values_left = VALUES_MAX

    def convert(self, value: object, depth_left: int) -> Any:
        self._values_left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            is_safe = -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX
            return int(value) if is_safe else sanitize_string(safe_repr(value), STRING_CHARS_MAX)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else safe_repr(value)
        if isinstance(value, str):
            return sanitize_string(value, STRING_CHARS_MAX)
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._convert_container(value, depth_left)
        return sanitize_string(safe_repr(value), STRING_CHARS_MAX)

    def _convert_container(self, value: Mapping[Any, Any] | Collection[Any], depth_left: int) -> Any:
        if depth_left == 0 or self._values_left <= 0:
            return "…"
        try:
            if isinstance(value, Mapping):
                return self._convert_mapping(value, depth_left)
            return self._convert_list(value, depth_left)
        except Exception:
            # Another thread modifies the container during iteration, or one of its methods raises.
            return f"<{type(value).__qualname__}: cannot be read>"

    def _convert_list(self, items: Collection[Any], depth_left: int) -> list[Any]:
        converted = [self.convert(item, depth_left - 1) for item in islice(items, ITEMS_MAX)]
        return converted if len(items) <= ITEMS_MAX else [*converted, f"… {len(items) - ITEMS_MAX} more"]

    def _convert_mapping(self, mapping: Mapping[Any, Any], depth_left: int) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for key, value in islice(mapping.items(), ITEMS_MAX):
            name = sanitize_string(key if isinstance(key, str) else safe_repr(key), KEY_CHARS_MAX)
            converted[name] = REMOVED if is_secret_name(name) else self.convert(value, depth_left - 1)
        if len(mapping) > ITEMS_MAX:
            converted["…"] = f"{len(mapping) - ITEMS_MAX} more"
        return converted


def encode_json(value: object) -> bytes:
    """Encodes a JSON-compatible value (see `to_json_value`) as compact UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
