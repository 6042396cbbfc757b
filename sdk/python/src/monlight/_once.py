"""Which part of this package has reported an exception, so that no other does it again."""

from __future__ import annotations

from typing import Literal, TypeAlias

Source: TypeAlias = Literal["call", "hook", "log", "middleware", "handler"]

_ATTRIBUTE = "__monlight_source__"


def mark(exception: BaseException, source: Source) -> None:
    # Not by setattr, which an exception that is a frozen dataclass refuses.
    exception.__dict__[_ATTRIBUTE] = source


def is_reported(exception: BaseException, source: Source) -> bool:
    """Whether something other than `source` has reported it.

    One exception may pass a log handler, a middleware and the server's log. That the same object is raised a second
    time, as some libraries do, looks just like that, but comes by the same source again.
    """
    return bool(exception.__dict__.get(_ATTRIBUTE, source) != source)
