"""Detection of secrets and client addresses by the names of variables, keys, headers and parameters."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

# A name is secret if one of its words is in SECRET_WORDS, ends with one of SECRET_SUFFIXES, or is a joined form:
# `X-Auth-Token`, `dbPassword`, `authtoken` and `secretkey` are secret; `author` and `max_tokens` are not.
SECRET_WORDS = {
    "auth", "authorization", "bearer", "cookies", "cred", "credential", "credentials", "creds", "csrf", "cvc", "cvv",
    "dsn", "hmac", "jwt", "mfa", "oauth", "oidc", "otp", "pass", "passcode", "passphrase", "pat", "pem", "pin", "pwd",
    "secrets", "session", "sid", "sig", "signature", "ssn", "totp", "webhook", "xsrf",
}  # fmt: skip
SECRET_SUFFIXES = (
    "password", "passwords", "passwd", "secret", "token", "apikey", "cookie", "sessionid", "sessid", "creditcard",
    "cardnumber", "connectionstring",
)  # fmt: skip
# `key`, `keys` and `tokens` are secret only after one of these words (`api_key`, `apikey`). The complete name `key` is
# secret only as a query parameter.
SECRET_KEY_PREFIXES = (
    "access", "account", "admin", "aes", "api", "app", "application", "auth", "client", "consumer", "crypto", "deploy",
    "encryption", "hmac", "jwt", "license", "master", "monlight", "pgp", "priv", "private", "refresh", "root", "rsa",
    "secret", "service", "session", "shared", "signing", "ssh", "storage",
)  # fmt: skip
SECRET_PASS_PREFIXES = (
    "admin", "database", "db", "ftp", "ldap", "login", "mail", "my", "mysql", "pg", "proxy", "redis", "root", "smtp",
    "ssh", "user",
)  # fmt: skip
SECRET_WORD_PAIRS = {
    ("card", "no"), ("card", "num"), ("card", "number"), ("cc", "num"), ("cc", "number"), ("conn", "str"),
    ("conn", "string"), ("connection", "string"), ("credit", "card"), ("recovery", "code"), ("recovery", "codes"),
    ("security", "code"), ("verification", "code"),
}  # fmt: skip

# Request headers that are never sent, regardless of the configuration.
SECRET_HEADERS = frozenset({
    "authorization", "cookie", "proxy-authorization", "remote-user", "sec-websocket-protocol", "set-cookie",
    "x-api-key", "x-forwarded", "x-forwarded-preferred-username", "x-forwarded-user", "x-remote-user",
})  # fmt: skip
# A header is not sent either if its name contains one of these words: identities that a proxy adds.
IDENTITY_WORDS = {"cert", "email", "principal"}
# The working directory of a shell, and not a password.
NON_SECRET_NAMES = {"PWD", "OLDPWD"}

# `client_ip` and `X-Real-IP` name an address of a client; `server_ip` does not.
ADDRESS_OWNERS = {
    "client", "connecting", "connection", "external", "ip", "peer", "pseudo", "real", "remote", "socket", "source",
    "user",
}  # fmt: skip
ADDRESS_WORDS = {"addr", "address", "ip", "ipv"}
ADDRESS_WORD_PAIRS = {("forwarded", "for"), ("proxied", "for")}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_JOINED_SECRET = re.compile(
    rf"(?:{'|'.join(SECRET_KEY_PREFIXES)})(?:keys?|tokens)$|(?:{'|'.join(SECRET_PASS_PREFIXES)})pass$"
)
_JOINED_ADDRESS = re.compile(rf"(?:{'|'.join(ADDRESS_OWNERS)})(?:{'|'.join(ADDRESS_WORDS)})")
_NAME_CHARS_MAX = 200
_CACHED_NAMES_MAX = 2_048


def is_private_name(name: str) -> bool:
    """Whether a variable, key, header or parameter of this name probably contains a secret or a client's address."""
    return _is_private(name[:_NAME_CHARS_MAX])


@lru_cache(_CACHED_NAMES_MAX)
def _is_private(name: str) -> bool:
    if "-" in name and is_private_header(name.lower()):
        return True
    return is_secret_name(name) or is_address_name(name)


def is_secret_name(name: str) -> bool:
    """Whether a variable, key, header or parameter of this name probably contains a secret."""
    if name in NON_SECRET_NAMES:
        return False
    words = split_words(name)
    if any(word in SECRET_WORDS or word.endswith(SECRET_SUFFIXES) or _JOINED_SECRET.search(word) for word in words):
        return True
    return any(
        (first, second) in SECRET_WORD_PAIRS or (first in SECRET_KEY_PREFIXES and second in ("key", "keys", "tokens"))
        for first, second in pairwise(words)
    )


def is_private_header(lower_name: str) -> bool:
    """Whether a header, in lower case, contains a secret or the identity of a user."""
    return lower_name in SECRET_HEADERS or not IDENTITY_WORDS.isdisjoint(split_words(lower_name))


def is_address_name(name: str) -> bool:
    """Whether a variable, key, header or parameter of this name probably contains the address of a client."""
    words = split_words(name)
    if words in (["ip"], ["forwarded"]) or any(_JOINED_ADDRESS.fullmatch(word) for word in words):
        return True
    return any(
        (first in ADDRESS_OWNERS and second in ADDRESS_WORDS) or (first, second) in ADDRESS_WORD_PAIRS
        for first, second in pairwise(words)
    )


def split_words(name: str) -> list[str]:
    """Splits a name at separators, digits and changes of case: `dbPassword2` into `db`, `password`, `2`."""
    return [word.lower() for word in _WORD.findall(name[:_NAME_CHARS_MAX])]
