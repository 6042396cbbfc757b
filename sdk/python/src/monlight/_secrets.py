"""What must not leave the application, told by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import unquote_plus, urlsplit, urlunsplit

REMOVED = "[removed]"

# Left out of reports whatever else is configured.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})

# A name is secret when one of its words is one of these or ends with one of SECRET_ENDINGS: `X-Auth-Token`,
# `dbPassword`, `authtoken`, but neither `author` nor `max_tokens`.
SECRET_WORDS = {
    "auth", "authorization", "bearer", "cookies", "credential", "credentials", "csrf", "cvc", "cvv", "jwt", "otp",
    "passphrase", "passwords", "pin", "pwd", "secrets", "session", "sid", "sig", "signature", "ssn", "xsrf",
}  # fmt: skip
SECRET_ENDINGS = ("password", "passwd", "secret", "token", "apikey", "cookie", "sessionid", "sessid")
# `key` alone is a secret only beside one of these, or as a whole name in a URL.
KEY_OF = {"access", "account", "api", "client", "encryption", "license", "monlight", "private", "service", "signing"}
CARD = {("card", "number"), ("cc", "number"), ("credit", "card")}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NAME_CHARS_MAX = 200
_URL_HEADERS = frozenset({"referer", "location", "origin"})
_URL_CHARS_MAX = 10_000


def is_secret(name: str) -> bool:
    """Whether what goes by this name is better not reported."""
    words = [word.lower() for word in _WORD.findall(name[:_NAME_CHARS_MAX])]
    if any(word in SECRET_WORDS or word.endswith(SECRET_ENDINGS) for word in words):
        return True
    return any(pair in CARD or (pair[0] in KEY_OF and pair[1] in ("key", "keys")) for pair in pairwise(words))


def scrub_url(url: str) -> str:
    """The URL without a password before its host and without the values of secret query parameters."""
    url = url[:_URL_CHARS_MAX]
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split("?")[0].rpartition("@")[2]
    host = parts.netloc.rpartition("@")[2]
    fragment = _scrub_query(parts.fragment) if "=" in parts.fragment else parts.fragment
    return urlunsplit((parts.scheme, host, parts.path, _scrub_query(parts.query), fragment))


def _scrub_query(query: str) -> str:
    return "&".join(_scrub_pair(pair) for pair in query.split("&"))


def _scrub_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    plain = unquote_plus(name)
    return f"{name}={REMOVED}" if equals and (plain.lower() == "key" or is_secret(plain)) else pair


def scrub_headers(headers: Mapping[str, str], excluded: frozenset[str]) -> dict[str, str]:
    """The headers without secret ones and without those in `excluded`, which are in lower case."""
    kept = {}
    for name, value in headers.items():
        lower = str(name).lower()
        if lower not in excluded and not is_secret(lower):
            kept[str(name)] = scrub_url(str(value)) if lower in _URL_HEADERS else str(value)
    return kept
