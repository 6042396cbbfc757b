"""Functions for `before_send` that a child process can import."""

from typing import Any


def add_mark(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    event["extra"]["mark"] = True
    return event
