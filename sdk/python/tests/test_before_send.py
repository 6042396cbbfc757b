"""`before_send`: it changes or drops reports, and nothing that it does loses one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from monlight import ErrorClient, MonlightHandler
from scripted_server import ScriptedServer
from services import KEY, Tracker, run_script


@pytest.fixture
def server(start_server: Callable[..., ScriptedServer]) -> ScriptedServer:
    return start_server()


def send(server: ScriptedServer, before_send: Any, message: str = "boom", **options: Any) -> list[dict[str, Any]]:
    """Returns the reports that a client with this `before_send` sends of one exception."""
    errors = ErrorClient(server.url, KEY, project="shop", before_send=before_send)
    count = len(server.requests)
    try:
        raise ValueError(message)
    except ValueError as error:
        errors.capture_exception(error, **options)
    assert errors.flush()
    return [request.json for request in server.requests[count:]]


def without_time(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != "timestamp"}


def test_report_can_be_changed_in_place(server: ScriptedServer) -> None:
    def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        event["message"] += "!"
        event["level"] = "warning"
        event["fingerprint"] = ["{{ default }}", 7]
        event["extra"]["shop"] = "east"
        event["extra"]["tags"]["plan"] = "pro"
        del event["user_id"]
        return event

    (report,) = send(server, before_send, user="u-1", tags={"tenant": "acme"}, extras={"cart": 7})
    assert (report["exception_type"], report["message"], report["level"]) == ("ValueError", "boom!", "warning")
    assert report["fingerprint"] == ["{{ default }}", "7"]
    assert report["extra"] == {"cart": 7, "shop": "east", "tags": {"tenant": "acme", "plan": "pro"}}
    assert "user_id" not in report


def test_extra_can_be_set_although_the_report_has_none(server: ScriptedServer) -> None:
    (unchanged,) = send(server, lambda event, hint: event)
    assert "extra" not in unchanged
    (report,) = send(server, lambda event, hint: event["extra"].update(shop="east") or event)
    assert report["extra"] == {"shop": "east"}


def test_none_drops_the_report(server: ScriptedServer) -> None:
    assert send(server, lambda event, hint: None if event["message"] == "noise" else event, "noise") == []
    assert len(send(server, lambda event, hint: None if event["message"] == "noise" else event)) == 1


async def asynchronous(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    return event


def raising(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    event["extra"].clear()
    event.clear()
    raise RuntimeError("in before_send")


UNUSABLE: dict[str, tuple[Any, str]] = {
    "raises": (raising, "before_send failed: RuntimeError"),
    "wrong signature": (lambda event: event, "before_send failed: TypeError"),
    "returns True": (lambda event, hint: True, "before_send returned bool"),
    "asynchronous": (asynchronous, "before_send returned coroutine"),
    "not a function": ("text", "invalid before_send"),
}


@pytest.mark.parametrize(("before_send", "warning"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_report_is_sent_unchanged_if_before_send_fails(
    before_send: Any, warning: str, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    (expected,) = send(server, None, extras={"cart": 7})
    (report,) = send(server, before_send, extras={"cart": 7})
    assert without_time(report) == without_time(expected)
    assert warning in caplog.text


class Uncomparable:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq failed")

    __hash__ = None  # type: ignore[assignment]


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"message": 7, "release": 142, "environment": b"staging"}, {"message": "7", "release": "142"}),
    ({"message": None, "project": "", "exception_type": object(), "traceback": [1]}, {"message": "boom"}),
    ({"message": "", "traceback": ""}, {"message": "", "traceback": ""}),
    (
        {"project": "x" * 101, "exception_type": "T" * 300},
        {"project": "x" * 99 + "…", "exception_type": "T" * 199 + "…"},
    ),
    ({"timestamp": 1.5}, {}),
    ({"timestamp": "2026-01-31T12:00:00Z"}, {"timestamp": "2026-01-31T12:00:00Z"}),
    ({"user": {"username": "eve"}, "tags": {"a": 1}}, {"user_id": "eve", "extra": {"cart": 7, "tags": {"a": "1"}}}),
    ({"server_name": "web-1"}, {"extra": {"cart": 7, "server_name": "web-1"}}),
    ({"extra": {"new": {1, 2}}}, {"extra": {"new": [1, 2]}}),
    ({"extra": ["a"]}, {"extra": {"value": ["a"]}}),
    ({"extra": {"cart": Uncomparable()}}, {"extra": {"cart": f"<{__name__}.Uncomparable>"}}),
    ({"extra": None}, {"extra": None}),
    ({"fingerprint": [None], "request_headers": "text"}, {"fingerprint": None, "request_headers": None}),
    (
        {"message": "s3cret-password", "extra": {"password": "s3cret-password"}},
        {"message": "[removed]", "extra": {"password": "[removed]"}},
    ),
]


@pytest.mark.parametrize(("changes", "expected"), CHANGES)
def test_odd_and_secret_values_are_repaired(
    changes: dict[str, Any], expected: dict[str, Any], server: ScriptedServer
) -> None:
    (unchanged,) = send(server, None, extras={"cart": 7})
    (report,) = send(server, lambda event, hint: {**event, **changes}, extras={"cart": 7})
    for name in ("project", "exception_type", "message", "traceback", "extra"):
        wanted = expected.get(name, unchanged[name])
        assert report.get(name) == wanted, name
    for name, value in expected.items():
        assert report.get(name) == value, name
    assert report["timestamp"] >= "2026"


def test_members_that_are_missing_are_removed_unless_they_are_required(server: ScriptedServer) -> None:
    (unchanged,) = send(server, None)
    (report,) = send(server, lambda event, hint: {}, extras={"cart": 7}, user="u-1")
    assert without_time(report) == without_time(unchanged)


def test_members_that_are_unchanged_are_not_converted_again(server: ScriptedServer) -> None:
    def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        event["extra"]["more"] = 1
        return event

    extra = []
    for function in (None, before_send):
        errors = ErrorClient(server.url, KEY, include_locals=True, before_send=function)
        # As deep as a local variable can be, which is deeper than a member of `extra` can.
        deep: Any = 1
        for _ in range(7):
            deep = [deep]
        try:
            raise ValueError("boom")
        except ValueError as error:
            errors.capture_exception(error)
        assert errors.flush()
        (variables,) = server.requests[-1].json["extra"]["locals"].values()
        assert variables["deep"] == deep
        extra.append(server.requests[-1].json["extra"])
    assert [members.get("more") for members in extra] == [None, 1]


def test_hint_contains_the_exception_or_the_log_record(server: ScriptedServer) -> None:
    hints: list[dict[str, Any]] = []

    def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        hints.append(hint)
        return event

    errors = ErrorClient(server.url, KEY, before_send=before_send)
    error = ValueError("boom")
    errors.capture_exception(error)
    handler = MonlightHandler(errors)
    record = logging.makeLogRecord({"msg": "no stock", "levelno": logging.ERROR, "name": "shop"})
    handler.handle(record)
    with_exception = logging.makeLogRecord(
        {"msg": "no stock", "levelno": logging.ERROR, "name": "shop", "exc_info": (KeyError, KeyError("a"), None)}
    )
    handler.handle(with_exception)
    errors.capture_message("text")
    assert errors.flush()
    assert hints[0]["exc_info"] == (ValueError, error, None)
    assert hints[1] == {"log_record": record}
    assert set(hints[2]) == {"exc_info", "log_record"}
    assert hints[3] == {}


def test_reports_that_before_send_makes_are_sent_without_it(server: ScriptedServer) -> None:
    calls = 0

    def before_send(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        errors.capture_message("from before_send")
        return event

    errors = ErrorClient(server.url, KEY, before_send=before_send)
    errors.capture_message("first")
    assert errors.flush()
    assert [request.json["message"] for request in server.requests] == ["from before_send", "first"]
    assert calls == 1


INIT = """
import event_filters, multiprocessing, monlight
monlight.init(error_tracker_url=errors_url, api_key=key, before_send={before_send})
monlight.set_tag("tenant", "acme")
monlight.set_user("u-1")
process = multiprocessing.get_context("spawn").Process(target=exec, args=("raise ValueError('boom')",))
process.start()
process.join()
raise SystemExit(process.exitcode)
"""


@pytest.mark.parametrize(
    ("before_send", "warning"),
    [
        ("event_filters.add_mark", ""),
        ("lambda event, hint: event", "failed to pass before_send to a child process"),
    ],
)
def test_child_process_has_before_send_user_and_tags(before_send: str, warning: str, tracker: Tracker) -> None:
    result = run_script(INIT.format(before_send=before_send), tracker)
    assert result.returncode == 1, result.stderr
    assert warning in result.stderr
    occurrence = tracker.only_report()["occurrences"][0]
    assert occurrence["user_id"] == "u-1"
    assert occurrence["extra"]["tags"] == {"tenant": "acme"}
    assert occurrence["extra"].get("mark", False) == (warning == "")


SETUPS = {
    "init": "monlight.init(**options)",
    "flask": "from monlight.integrations.flask import setup_monlight; setup_monlight(flask.Flask('a'), **options)",
    "fastapi": "from monlight.integrations.fastapi import setup_monlight; setup_monlight(fastapi.FastAPI(), **options)",
    "django": "from django.conf import settings; settings.configure(MONLIGHT=options)\n"
    "from monlight.integrations.django import clients; clients()",
}


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS.keys())
def test_all_integrations_have_before_send(setup: str, tracker: Tracker) -> None:
    script = f"""
import event_filters, fastapi, flask, monlight
options = dict(error_tracker_url=errors_url, api_key=key, before_send=event_filters.add_mark)
{setup}
monlight.capture_message("boom")
"""
    result = run_script(script, tracker)
    assert result.returncode == 0, result.stderr
    assert tracker.only_report()["occurrences"][0]["extra"] == {"mark": True}
