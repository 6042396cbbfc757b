"""Fields of a report that describe the request: repaired where the application passes other types, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from monlight._safety import log_debug
from monlight._scrub import Scrubber
from monlight._secrets import is_private_name
from monlight._serialize import Serializer, scalar_text

HEADERS_MAX = 64
# Twice the maximum of a string in a report, so that a copy of a secret at the end is complete when it is removed.
HEADER_CHARS_MAX = 4_000
# Attributes that hold the identifier of an object given as the user, and those that identify a user without one.
_ID_NAMES = ("id", "pk")
_USER_NAMES = (*_ID_NAMES, "username", "email")


def request_fields(context: Mapping[str, Any], excluded_headers: frozenset[str], scrubber: Scrubber) -> dict[str, Any]:
    """Returns the fields of a report that `request_context` describes. A value that cannot be used is left out."""
    _remember_hidden_values(context, scrubber)
    headers = _header_items(context.get("request_headers"))
    url = _url_text(context.get("request_url"))
    fields = {
        "request_headers": scrubber.headers(headers, excluded_headers),
        "request_url": None if url is None else scrubber.url(url),
        "request_method": scalar_text(context.get("request_method")),
        "user_id": _user_id(context.get("user_id")),
    }
    for name, value in fields.items():
        if value is None and context.get(name) is not None:
            log_debug(f"monlight: {name} of type {type(context[name]).__name__} cannot be used; the field is dropped")
    return fields


def _remember_hidden_values(context: Mapping[str, Any], scrubber: Scrubber) -> None:
    """Remembers the client's address and the secret parameters of the path, which the integrations pass."""
    scrubber.removed.add_addresses(scalar_text(context.get("client_address")) or "")
    parameters = context.get("path_parameters")
    for name, value in parameters.items() if isinstance(parameters, dict) else ():
        if is_private_name(str(name)):
            scrubber.remove(str(name), scalar_text(value) or "")


def _url_text(url: Any) -> str | None:
    try:
        # Frameworks have classes for URLs, which only `str` converts.
        return scalar_text(url) or (None if url is None else str(url))
    except Exception:
        return None


def user_identifier(user: Any) -> str | None:
    """Returns the ID, or else the name or the address, of a user that is given as a value, a mapping or an object."""
    identifier = _user_id(user, _USER_NAMES)
    if identifier is None and user is not None:
        log_debug(f"monlight: a user of type {type(user).__name__} cannot be used; the user is not reported")
    return identifier


def _user_id(user: Any, names: tuple[str, ...] = _ID_NAMES) -> str | None:
    """Returns the identifier of a user that is given as a single value, a mapping or an object."""
    text = scalar_text(user)
    if text is not None or user is None:
        return text
    try:
        # Not `getattr`, which runs a database query if the object is lazy.
        attributes = user if issubclass(type(user), dict) else object.__getattribute__(user, "__dict__")
        texts = (scalar_text(attributes[name]) for name in names if name in attributes)
        return next((text for text in texts if text), None)
    except Exception:
        return None


def _header_items(headers: Any) -> list[tuple[str, str]]:
    """Returns the names and values of headers that are given as a mapping, an object like it, or a list of pairs."""
    if headers is None:
        return []
    try:
        items = islice(headers.items() if hasattr(headers, "items") else headers, HEADERS_MAX)
        return [(_header_text(name), _header_text(value)) for name, value in items]
    except Exception:
        log_debug(f"monlight: request_headers of type {type(headers).__name__} cannot be used; the field is dropped")
        return []


def _header_text(value: Any) -> str:
    text = scalar_text(value)
    return (str(Serializer(Scrubber()).convert(value)) if text is None else text)[:HEADER_CHARS_MAX]
