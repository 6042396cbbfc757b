"""Functions that report through the client of `monlight.init`, and set the user and tags of reports.

Their names and arguments are those of Sentry's SDK. `capture_exception` and `capture_message` have no effect before
`init`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monlight import _scope
from monlight._exception_hooks import hooks
from monlight._request import user_identifier
from monlight._safety import log_warning, never_raise
from monlight.error_client import ErrorClient, ExcInfo


@never_raise(None)
def capture_exception(
    error: BaseException | ExcInfo | None = None,
    *,
    level: str | None = None,
    fingerprint: Sequence[str] | None = None,
    tags: Mapping[str, object] | None = None,
    user: object = None,
    extras: Mapping[str, object] | None = None,
    contexts: Mapping[str, object] | None = None,
) -> None:
    """Queues a report of an exception and returns immediately.

    Args:
        error: Exception to report, or the result of `sys.exc_info()`. Default: the exception being handled.
        level: Severity, such as `warning` or `fatal`. Default: `error`.
        fingerprint: Texts that decide about the group, at most ten of at most 200 characters. `{{ default }}` stands
            for the usual fingerprint. The tracker of this version does not use it yet.
            Default: the attribute `monlight_fingerprint` of the exception.
        tags: Tags of this report, in addition to those of `set_tag`. Default: none.
        user: User of this report, as for `set_user`. Default: the user of `set_user`.
        extras: Members of `extra`. Default: none.
        contexts: Member `contexts` of `extra`. Default: none.
    """
    client = _client("capture_exception")
    if client is not None:
        client.capture_exception(
            error, level=level, fingerprint=fingerprint, tags=tags, user=user, extras=extras, contexts=contexts
        )


@never_raise(None)
def capture_message(
    message: str,
    level: str | None = None,
    *,
    fingerprint: Sequence[str] | None = None,
    tags: Mapping[str, object] | None = None,
    user: object = None,
    extras: Mapping[str, object] | None = None,
    contexts: Mapping[str, object] | None = None,
) -> None:
    """Queues a report of a message, with the stack of the caller, and returns immediately.

    Args:
        message: Text of the message.
        level: Severity, such as `warning` or `fatal`. Default: `info`.
        fingerprint, tags, user, extras, contexts: See `capture_exception`.
    """
    client = _client("capture_message")
    if client is not None:
        client._report_message(
            message, level, 3, fingerprint=fingerprint, tags=tags, user=user, extras=extras, contexts=contexts
        )


@never_raise(None)
def set_user(user: Mapping[str, Any] | object | None) -> None:
    """Sets the user of all later reports of the current request, task or thread.

    In the main thread, outside of requests and event loops, it sets the user of the whole process.

    Args:
        user: A mapping such as `{"id": 7}`, of which only `id` is reported, or else `username`, or else `email`; an
            object with such attributes; or the ID itself. None removes the user.
    """
    _scope.set_user_id(user_identifier(user))


@never_raise(None)
def set_tag(key: str, value: object) -> None:
    """Sets a tag of all later reports of the current request, task or thread, see `set_user`.

    Args:
        key: Name of the tag, at most 200 characters.
        value: Value, which is reported as text, at most 200 characters. None removes the tag.
    """
    _scope.set_tag(key, value)


def _client(function: str) -> ErrorClient | None:
    client = hooks.client
    if client is None:
        log_warning(f"monlight: {function} failed: init was not called with an error_tracker_url; nothing is reported")
    return client
