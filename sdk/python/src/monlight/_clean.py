"""Turns whatever an application hands over into JSON that the services take."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from monlight._secrets import REMOVED, is_secret

TEXT_CHARS_MAX = 2_000
NAME_CHARS_MAX = 200
DEPTH_MAX = 8
ITEMS_MAX = 100
VALUES_MAX = 1_000
# Beyond these a number is not the same in every language that may read it.
INTEGER_MAX = 2**53


def clean_text(text: str, chars_max: int) -> str:
    """At most `chars_max` characters, without what a JSON text must not hold: NUL and lone surrogates."""
    if len(text) > chars_max:
        text = text[: chars_max - 1] + "…"
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def cut_middle(text: str, chars_max: int) -> str:
    """At most `chars_max` characters: a quarter from the beginning, the rest from the end, and a line that says so."""
    if len(text) <= chars_max:
        return text
    mark = "\n[…]\n"
    head = chars_max // 4
    return text[:head] + mark + text[len(text) - (chars_max - head - len(mark)) :]


def describe(value: object) -> str:
    """What `repr` says, and where that fails, what it is."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__qualname__} without repr>"


def clean(value: object) -> Any:
    """A copy as JSON: secrets removed by name, depth, lengths and counts bounded, strangers as their `repr`."""
    return _Copy().of(value, DEPTH_MAX)


class _Copy:
    def __init__(self) -> None:
        self._values_left = VALUES_MAX

    def of(self, value: object, depth: int) -> Any:
        self._values_left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if -INTEGER_MAX <= value <= INTEGER_MAX else clean_text(describe(value), TEXT_CHARS_MAX)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else describe(value)
        if isinstance(value, str):
            return clean_text(value, TEXT_CHARS_MAX)
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._container(value, depth)
        return clean_text(describe(value), TEXT_CHARS_MAX)

    def _container(self, value: Mapping[Any, Any] | Collection[Any], depth: int) -> Any:
        if depth == 0 or self._values_left <= 0:
            return "…"
        try:
            return self._mapping(value, depth) if isinstance(value, Mapping) else self._list(value, depth)
        except Exception:
            # Another thread changes it meanwhile, or its own methods raise.
            return f"<{type(value).__qualname__} that cannot be read>"

    def _list(self, items: Collection[Any], depth: int) -> list[Any]:
        copy = [self.of(item, depth - 1) for item in islice(items, ITEMS_MAX)]
        return copy if len(items) <= ITEMS_MAX else [*copy, f"… {len(items) - ITEMS_MAX} more"]

    def _mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, value in islice(mapping.items(), ITEMS_MAX):
            name = clean_text(key if isinstance(key, str) else describe(key), NAME_CHARS_MAX)
            copy[name] = REMOVED if is_secret(name) else self.of(value, depth - 1)
        if len(mapping) > ITEMS_MAX:
            copy["…"] = f"{len(mapping) - ITEMS_MAX} more"
        return copy


def to_json(value: object) -> bytes:
    """Compact UTF-8. What is handed in has been cleaned."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
