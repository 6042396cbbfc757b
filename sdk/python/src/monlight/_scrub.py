"""Removal of secrets from the URLs, headers and texts of one report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

from monlight._removed import REMOVED, RemovedValues, looks_random
from monlight._secrets import is_address_name, is_private_name, split_words

_URL_HEADER_WORDS = {"destination", "location", "origin", "path", "referer", "referrer", "uri", "url"}

_CACHED_NAMES_MAX = 512
_ENVIRONMENT_CHARS_MIN = 8
_LOCATION_WORDS = {"addr", "address", "domain", "endpoint", "engine", "host", "name", "port", "uri", "url"}
_URL_CHARS_MAX = 10_000
# URLs inside the parameters of URLs.
_NESTED_URLS_MAX = 3
_URL = re.compile(r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,30}://[^\s\"'<>\\]+")
# A password with an unescaped `/`, `?` or `#`, which urlsplit takes for the end of the host. Digits are a port.
_UNESCAPED_PASSWORD = re.compile(r"//([^/?#@\[]*:(?!\d{1,5}(?:[/?#]|$))[^@]*)@")
_PATH_PARAMETER = re.compile(r"([^/;=]+)=([^/;]*)")

# The name and the separator of `name=value`, `"name": value` and `name => value`.
_NAME = re.compile(
    r"(?<!\w)(?P<name>[A-Za-z_][\w.\-]{0,99})(?P<quote>\\{0,3}[\"'])?\]?"
    r"[ \t]{0,3}(?P<sign>=>|={1,3}|:)(?P<padding>[ \t]{0,3})"
)
_QUOTED_VALUE = re.compile(
    r"[bBrRuUfF]{0,2}(?P<quote>[\"'])(?P<value>(?:(?!(?P=quote))(?:[^\\\n]|\\.))*)"
    # A string inside a string, whose quotation marks are escaped.
    r"|(?P<escaped_quote>\\{1,3}[\"'])(?P<escaped_value>(?:(?!(?P=escaped_quote))(?:[^\\\n]|\\+.))*)"
)
_BARE_VALUE = re.compile(
    r"(?P<value>(?:(?:basic|bearer|digest|token|apikey) +)?[^\s,;&\"'<>()\[\]{}\\]+)", re.IGNORECASE
)
_PORT = re.compile(r"\d{1,5}")
_PAIR = re.compile(
    r"\((?P<open>b?(?P<q>[\"'])(?P<name>[\w.\-]{1,100})(?P=q), )"
    r"b?(?P<v>[\"'])(?P<value>(?:(?!(?P=v))(?:[^\\\n]|\\.))*)(?P=v)\)"
)
_HEADER_LINE = re.compile(r"\b((?:set-)?cookie|(?:proxy-)?authorization)(:[ \t]*)([^\n\"']+)", re.IGNORECASE)
_SCHEME = re.compile(r"\b((?:basic|bearer)\s+)(?=\S*\d)([A-Za-z0-9._~+/=\-]{8,})", re.IGNORECASE)
_FORM_PART = re.compile(r"(name=\"([^\"\n]{1,100})\"[^\n]*\n(?:[^\r\n]+\r?\n){0,5}\r?\n)(.*?)(?=\r?\n--|$)", re.DOTALL)
_FORM_INPUT = re.compile(r"(name=\"([^\"\n]{1,100})\"[^<>]{0,200}? value=\")([^\"]*)")
# `--password x` and `'--password', 'x'`.
_OPTION = re.compile(r"(?<!\w)(--([A-Za-z][\w\-]{0,99})(?:[\"'], [\"']| +))([^\s\"',]+)")
_ELEMENT = re.compile(r"(<([A-Za-z_][\w.\-:]{0,99})(?:\s[^<>]*)?>)([^<]+)(?=</)")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
# Lines of a traceback, which exception groups indent behind a vertical bar.
_TRACEBACK_LINE = re.compile(r"(?: *\| )?(?:(?P<file>  File \".*\", line \d+(?:, in .*)?$)|(?P<code>    )(?! *[|+]))")


def secrets_in_environment(variables: Mapping[str, str]) -> RemovedValues:
    """Returns the secrets in environment variables."""
    scrubber = Scrubber()
    for name, value in variables.items():
        if "://" in value:
            scrubber.url(value)
        if _is_secret_variable(name, value):
            scrubber.remove(name, value)
    return scrubber.removed


def _is_secret_variable(name: str, value: str) -> bool:
    # Not `SESSION_FILE=/run/session` or `AUTH_SERVICE_HOST=10.0.0.7`. The path of a webhook is secret.
    words = split_words(name)
    is_location = value.startswith("/") or (words[-1:] and words[-1] in _LOCATION_WORDS and "webhook" not in words)
    return len(value) >= _ENVIRONMENT_CHARS_MIN and not is_location and is_private_name(name)


def scrub_url(url: str) -> str:
    """Removes user name and password, and the values of secret parameters, from a URL."""
    return Scrubber().url(url)


class Scrubber:
    """Removes secrets from the parts of one report.

    A part that is removed is remembered, and `remove_copies` removes it from all other parts.
    """

    def __init__(self, known_secrets: Iterable[str] = ()) -> None:
        self.removed = RemovedValues(known_secrets)
        self._is_inside_secret = False

    def remove(self, name: str, value: str) -> str:
        """Remembers the value of a variable, header or parameter with a private name, and returns the placeholder."""
        if is_address_name(name):
            self.removed.add_addresses(value)
        elif value != REMOVED:
            self.removed.add(value)
            if "cookie" in name.lower():
                self.removed.add_cookies(value)
            if not self._is_inside_secret:
                # Where the value is copied, another secret in it may be removed before the value itself.
                self._is_inside_secret = True
                scrubbed = self.text(value)
                self._is_inside_secret = False
                if scrubbed != value:
                    self.removed.add(scrubbed)
        return REMOVED

    def url(self, url: str, nested: int = 0) -> str:
        """Removes user name and password, and the values of secret parameters, from a URL."""
        url = url[:_URL_CHARS_MAX]
        try:
            parts = urlsplit(url)
            if "@" not in parts.netloc and ":" in parts.netloc and "@" in url:
                parts = urlsplit(_UNESCAPED_PASSWORD.sub(self._remove_credentials, url, count=1))
        except ValueError:
            return url.split("?")[0].rpartition("@")[2]
        credentials, _, host = parts.netloc.rpartition("@")
        if credentials:
            self._remember_credentials(credentials)
        path = _PATH_PARAMETER.sub(lambda match: self._parameter(match[0], nested), parts.path)
        query, fragment = (self._query(part, nested) if "=" in part else part for part in (parts.query, parts.fragment))
        return urlunsplit((parts.scheme, host, path, query, fragment))

    def _remove_credentials(self, match: re.Match[str]) -> str:
        self._remember_credentials(match[1])
        return "//"

    def _remember_credentials(self, credentials: str) -> None:
        user, colon, password = credentials.partition(":")
        # The user alone may be a token. A password that equals the user is a default, such as `postgres`.
        if (colon and password != user) or looks_random(user):
            self.removed.add(password if colon else user)

    def _query(self, query: str, nested: int) -> str:
        return "".join(
            part if part in ("&", ";") else self._parameter(part, nested) for part in re.split("([&;])", query)
        )

    def _parameter(self, parameter: str, nested: int) -> str:
        name, equals, value = parameter.partition("=")
        decoded_name = unquote_plus(name)
        if not equals:
            return parameter
        if decoded_name.lower() == "key" or is_private_name(decoded_name):
            return f"{name}={self.remove(decoded_name, value)}"
        decoded = unquote_plus(value)
        if nested >= _NESTED_URLS_MAX or not ("=" in decoded or ":" in decoded):
            return parameter
        is_url = "?" in decoded or decoded.startswith("/")
        scrubbed = self.url(decoded, nested + 1) if is_url else self.text(decoded, nested + 1)
        return parameter if scrubbed == decoded else f"{name}={quote(scrubbed, safe='[]', errors='replace')}"

    def headers(self, headers: Iterable[tuple[str, str]], excluded: frozenset[str]) -> dict[str, str]:
        """Returns the headers without secrets and addresses, and without the names in `excluded`, in lower case."""
        kept = {}
        for name, value in headers:
            lower_name = name.lower()
            if lower_name in excluded or is_private_name(lower_name):
                self.remove(name, value)
            else:
                kept[name] = self.url(value) if _contains_url(lower_name) else self.text(value)
        return kept

    def text(self, text: str, nested: int = 0, *, is_code: bool = False) -> str:
        """Removes secrets from a text: passwords in URLs, and values after a private name.

        Args:
            text: Any text.
            nested: Number of URLs of which this text is a parameter.
            is_code: Whether the text is a line of source code, where only literals are removed.
        """
        if "://" in text:
            text = _URL.sub(lambda match: self.url(match[0], nested), text)
        if nested < _NESTED_URLS_MAX and ("%3D" in text or "%3d" in text):
            decoded = unquote_plus(text)
            scrubbed = self.text(decoded, _NESTED_URLS_MAX)
            text = text if scrubbed == decoded else scrubbed
        text = self._private_keys(text)
        if "</" in text:
            text = _ELEMENT.sub(self._remove_third_group, text)
        if "--" in text:
            text = _OPTION.sub(self._remove_third_group, text)
        if "earer " in text or "asic " in text or "BEARER " in text or "BASIC " in text:
            text = _SCHEME.sub(self._remove_token, text)
        if not ("=" in text or ":" in text or "', " in text):
            return text
        if 'name="' in text:
            text = _FORM_INPUT.sub(self._remove_third_group, _FORM_PART.sub(self._remove_third_group, text))
        if "ookie:" in text or "uthorization:" in text:
            text = _HEADER_LINE.sub(lambda match: match[1] + match[2] + self.remove(match[1], match[3]), text)
        return self._assignments(_PAIR.sub(self._remove_pair, text), is_code)

    def _private_keys(self, text: str) -> str:
        if "PRIVATE KEY-----" not in text:
            return text
        return _PRIVATE_KEY.sub(lambda match: self.remove("", match[0]), text)

    def _remove_third_group(self, match: re.Match[str]) -> str:
        return match[1] + self.remove(match[2], match[3]) if is_private_name(match[2]) else match[0]

    def _remove_token(self, match: re.Match[str]) -> str:
        return match[1] + self.remove("", match[2])

    def _remove_pair(self, match: re.Match[str]) -> str:
        if not is_private_name(match["name"]):
            return match[0]
        self.remember_second_of_pair(match["name"], match["value"])
        return f"({match['open']}{REMOVED})"

    def remember_second_of_pair(self, name: str, value: str) -> None:
        """Remembers the second of two items unless it may be a word: `("token", "email")` are two names."""
        if looks_random(value):
            self.remove(name, value)

    def _assignments(self, text: str, is_code: bool) -> str:
        pieces, end = [], 0
        for name in _NAME.finditer(text):
            if name.start() < end or not is_private_name(name["name"]):
                continue
            value = _QUOTED_VALUE.match(text, name.end())
            if value is None and not is_code:
                value = _BARE_VALUE.match(text, name.end())
                if value is not None and not _is_assignment(text, name, value):
                    continue
            if value is not None:
                group = value.lastgroup or "value"
                pieces += [text[end : value.start(group)], self.remove(name["name"], value[group])]
                end = value.end(group)
        return "".join([*pieces, text[end:]])

    def traceback(self, traceback: str) -> str:
        """Removes secrets from a traceback. Keeps the positions of frames, which determine the group of the report."""
        return "\n".join(map(self._traceback_line, self._private_keys(traceback).split("\n")))

    def _traceback_line(self, line: str) -> str:
        kind = _TRACEBACK_LINE.match(line)
        if kind is None:
            return self.text(line)
        is_code_with_literal = kind["code"] and ('"' in line or "'" in line)
        return self.text(line, is_code=True) if is_code_with_literal else line

    def remove_copies_from_traceback(self, traceback: str) -> str:
        """Removes the copies of removed values from a traceback, except from the positions of its frames."""
        if self.removed.remove_copies(traceback) == traceback:
            return traceback
        lines = []
        for line in traceback.split("\n"):
            kind = _TRACEBACK_LINE.match(line)
            is_position = kind is not None and kind["file"]
            lines.append(line if is_position else self.removed.remove_copies(line))
        return "\n".join(lines)

    def remove_copies(self, value: Any) -> Any:
        """Removes the copies of removed values from a JSON-compatible value."""
        if isinstance(value, str):
            return self.removed.remove_copies(value)
        if isinstance(value, dict):
            return {self.removed.remove_copies(key): self.remove_copies(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.remove_copies(item) for item in value]
        if isinstance(value, int) and str(value) in self.removed:
            return REMOVED
        return value


@lru_cache(_CACHED_NAMES_MAX)
def _contains_url(lower_name: str) -> bool:
    """Whether the value of a header is a URL or a path."""
    return not _URL_HEADER_WORDS.isdisjoint(split_words(lower_name))


def _is_assignment(text: str, name: re.Match[str], value: re.Match[str]) -> bool:
    """Whether a name and a value without quotation marks are not part of a sentence or a host and its port."""
    if name["quote"] or (name["sign"] != ":" and not name["padding"]):
        return True
    line_before = text[text.rfind("\n", 0, name.start()) + 1 : name.start()]
    if name["padding"] and not line_before.strip(" -") and text[value.end() : value.end() + 1] in ("", "\r", "\n"):
        # A line of a configuration file.
        return True
    return looks_random(value["value"]) and (bool(name["padding"]) or _PORT.fullmatch(value["value"]) is None)
