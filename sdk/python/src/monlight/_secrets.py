"""Detection of secrets by name, and their removal from URLs and headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import unquote_plus, urlsplit, urlunsplit

REMOVED = "[removed]"

# Request headers that are never sent, regardless of the configuration.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})

# A name is secret if one of its words is in SECRET_WORDS or ends with one of SECRET_SUFFIXES: `X-Auth-Token`,
# `dbPassword` and `authtoken` are secret; `author` and `max_tokens` are not.
SECRET_WORDS = {
    "auth", "authorization", "bearer", "cookies", "credential", "credentials", "csrf", "cvc", "cvv", "jwt", "otp",
    "passphrase", "passwords", "pin", "pwd", "secrets", "session", "sid", "sig", "signature", "ssn", "xsrf",
}  # fmt: skip
SECRET_SUFFIXES = ("password", "passwd", "secret", "token", "apikey", "cookie", "sessionid", "sessid")
# `key` is secret only after one of these words (`api_key`), or as the complete name of a query parameter.
SECRET_KEY_PREFIXES = {
    "access", "account", "api", "client", "encryption", "license", "monlight", "private", "service", "signing",
}  # fmt: skip
SECRET_WORD_PAIRS = {("card", "number"), ("cc", "number"), ("credit", "card")}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NAME_CHARS_MAX = 200
_URL_HEADERS = frozenset({"referer", "location", "origin"})
_URL_CHARS_MAX = 10_000


def is_secret_name(name: str) -> bool:
    """Whether a variable, key, header or parameter of this name probably contains a secret."""
    words = [word.lower() for word in _WORD.findall(name[:_NAME_CHARS_MAX])]
    if any(word in SECRET_WORDS or word.endswith(SECRET_SUFFIXES) for word in words):
        return True
    return any(
        (first, second) in SECRET_WORD_PAIRS or (first in SECRET_KEY_PREFIXES and second in ("key", "keys"))
        for first, second in pairwise(words)
    )


def scrub_url(url: str) -> str:
    """Removes user name and password, and the values of secret parameters in the query and the fragment, from a URL."""
    url = url[:_URL_CHARS_MAX]
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split("?")[0].rpartition("@")[2]
    host = parts.netloc.rpartition("@")[2]
    fragment = _scrub_query(parts.fragment) if "=" in parts.fragment else parts.fragment
    return urlunsplit((parts.scheme, host, parts.path, _scrub_query(parts.query), fragment))


def _scrub_query(query: str) -> str:
    return "&".join(_scrub_parameter(parameter) for parameter in query.split("&"))


def _scrub_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    decoded = unquote_plus(name)
    is_secret = decoded.lower() == "key" or is_secret_name(decoded)
    return f"{name}={REMOVED}" if equals and is_secret else parameter


def scrub_headers(headers: Mapping[str, str], excluded: frozenset[str]) -> dict[str, str]:
    """Returns the headers without secret names and without the names in `excluded`, which must be in lower case."""
    kept = {}
    for name, value in headers.items():
        lower_name = str(name).lower()
        if lower_name not in excluded and not is_secret_name(lower_name):
            kept[str(name)] = scrub_url(str(value)) if lower_name in _URL_HEADERS else str(value)
    return kept
