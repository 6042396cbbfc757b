"""The values that were removed from a report, and the removal of their copies from the rest of it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote_plus

REMOVED = "[removed]"

# Shorter values, and ordinary words, also occur in text that has nothing to do with the secret.
COPY_CHARS_MIN = 5
# A shorter value, and a word, are not removed from the middle of a word, and an address not from that of another one.
EMBEDDED_CHARS_MIN = 8
WORD_CHARS_MAX = 15
# A shorter line of a value with several lines may be an ordinary word.
LINE_CHARS_MIN = 16
VALUE_CHARS_MAX = 16_000
VALUES_MAX = 300
# Characters by which a copy is found. Copies of long values may be truncated.
_HEAD_CHARS = 48
_ORDINARY_WORDS = {
    "basic", "bearer", "default", "digest", "disabled", "enabled", "false", "optional", "password", "required",
    "secret", "session", "string", "token", "undefined",
}  # fmt: skip

_SCHEME = re.compile(r"(basic|bearer|digest|token|apikey|negotiate)\s+(.+)", re.IGNORECASE | re.DOTALL)
_COOKIE_VALUE = re.compile(r"[^=;]+=([^;]*)")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]{2,}")
_LOOPBACK_ADDRESSES = ("127.", "::1")


class RemovedValues:
    """Secret values of one report, and `known_values` from elsewhere."""

    def __init__(self, known_values: Iterable[str] = ()) -> None:
        self._values = set(known_values)
        # Computed when the first text is searched, and again after another value has been added.
        self._longest_first: list[str] | None = None
        self._encoded_longest_first: list[str] | None = None

    def add(self, value: str) -> None:
        """Adds a value, and the parts of it that may occur elsewhere: without its scheme, or one of its lines."""
        value = value.strip()[:VALUE_CHARS_MAX]
        self._add(value)
        if "\n" in value:
            for line in value.splitlines():
                if len(line) >= LINE_CHARS_MIN:
                    self._add(line)
        scheme = _SCHEME.fullmatch(value) if " " in value else None
        if scheme is not None:
            self._add(scheme[2])
            if scheme[1].lower() == "basic":
                self._add_basic_credentials(scheme[2])

    def add_cookies(self, header: str) -> None:
        """Adds the values of the cookies in a `Cookie` or `Set-Cookie` header, except for words such as `en-US`."""
        for value in _COOKIE_VALUE.findall(header[:VALUE_CHARS_MAX]):
            if looks_random(value):
                self._add(value.strip().strip('"'))

    def add_addresses(self, text: str) -> None:
        """Adds each IP address in a text, except that of this machine."""
        for address in _ADDRESS.findall(text[:VALUE_CHARS_MAX]):
            if not address.startswith(_LOOPBACK_ADDRESSES):
                self._add(address)

    def _add_basic_credentials(self, encoded: str) -> None:
        try:
            user_and_password = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            return
        self._add(user_and_password)
        self._add(user_and_password.partition(":")[2])

    def _add(self, value: str) -> None:
        if "%" in value or "+" in value:
            self._add_decoded(unquote_plus(value))
        self._add_decoded(value)

    def _add_decoded(self, value: str) -> None:
        if len(value) >= COPY_CHARS_MIN and value.lower() not in _ORDINARY_WORDS and len(self._values) < VALUES_MAX:
            self._values.add(value)
            self._longest_first = self._encoded_longest_first = None

    def values(self) -> frozenset[str]:
        """Returns all values."""
        return frozenset(self._values)

    def __contains__(self, text: str) -> bool:
        return text in self._values

    def remove_copies(self, text: str) -> str:
        """Replaces every copy of a removed value in a text, also an encoded copy."""
        is_encoded = "%" in text or "+" in text or "\\" in text
        for value in self._encoded_values() if is_encoded else self._plain_values():
            if value[:_HEAD_CHARS] in text:
                text = _remove_copies(value, text)
        return text

    def _plain_values(self) -> list[str]:
        if self._longest_first is None:
            # A value may contain a shorter one.
            self._longest_first = sorted(self._values, key=len, reverse=True)
        return self._longest_first

    def _encoded_values(self) -> list[str]:
        if self._encoded_longest_first is None:
            forms = {form for value in self._values if not value.isalnum() for form in _encoded_forms(value)}
            self._encoded_longest_first = sorted(forms | self._values, key=len, reverse=True)
        return self._encoded_longest_first


def _encoded_forms(value: str) -> Iterator[str]:
    """Yields a value as it occurs in a URL and in a string of Python and JSON."""
    yield quote(value, errors="replace")
    yield quote(value, safe="", errors="replace")
    yield quote_plus(value, errors="replace")
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]


def _remove_copies(value: str, text: str) -> str:
    if len(value) < EMBEDDED_CHARS_MIN or not looks_random(value) or _ADDRESS.fullmatch(value):
        return re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", lambda _: REMOVED, text)
    if len(value) <= _HEAD_CHARS:
        return text.replace(value, REMOVED)
    kept, end = [], 0
    while (start := text.find(value[:_HEAD_CHARS], end)) >= 0:
        kept.append(text[end:start])
        end = start + _common_prefix_chars(value, text[start : start + len(value)])
    return REMOVED.join([*kept, text[end:]])


def looks_random(value: str) -> bool:
    """Whether a value is long or contains a digit, so that it is not just a word."""
    return len(value) > WORD_CHARS_MAX or any(character.isdigit() for character in value)


def _common_prefix_chars(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))
