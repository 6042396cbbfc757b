"""`capture_exception`, `capture_message` and fingerprints, with the arguments that Sentry's SDK has."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from monlight import ErrorClient, MonlightHandler
from scripted_server import ScriptedServer
from services import KEY, Tracker, run_script


@pytest.fixture
def server(start_server: Callable[..., ScriptedServer]) -> ScriptedServer:
    return start_server()


@pytest.fixture
def errors(server: ScriptedServer) -> ErrorClient:
    return ErrorClient(server.url, KEY, project="shop")


@contextmanager
def sent_report(errors: ErrorClient, server: ScriptedServer) -> Iterator[dict[str, Any]]:
    """Fills the dictionary with the only report that is sent inside the `with` block."""
    report: dict[str, Any] = {}
    count = len(server.requests)
    yield report
    assert errors.flush()
    (request,) = server.requests[count:]
    report.update(request.json)


def capture(errors: ErrorClient, server: ScriptedServer, error: Any = None, *args: Any, **options: Any) -> Any:
    """Returns the report of an exception that is captured with these arguments."""
    with sent_report(errors, server) as report:
        errors.capture_exception(ValueError("boom") if error is None else error, *args, **options)
    return report


def test_arguments_become_fields_of_the_report(errors: ErrorClient, server: ScriptedServer) -> None:
    report = capture(
        errors,
        server,
        level="fatal",
        fingerprint=["{{ default }}", "checkout"],
        tags={"tenant": "acme", "plan": 2},
        user={"id": 7, "email": "eve@shop.example"},
        extras={"cart": {"items": 3}},
        contexts={"order": {"total": 5}},
    )
    assert (report["level"], report["user_id"]) == ("critical", "7")
    assert report["fingerprint"] == ["{{ default }}", "checkout"]
    assert report["extra"] == {
        "cart": {"items": 3},
        "contexts": {"order": {"total": 5}},
        "tags": {"tenant": "acme", "plan": "2"},
    }
    assert "eve@" not in json.dumps(report)


def test_arguments_are_added_to_the_request_context(errors: ErrorClient, server: ScriptedServer) -> None:
    context = {"user_id": "u-1", "request_method": "GET", "extra": {"a": 1, "tags": {"plan": "free", "own": 1}}}
    report = capture(errors, server, None, context, tags={"plan": "pro", "tenant": "acme"}, extras={"b": 2})
    assert (report["user_id"], report["request_method"]) == ("u-1", "GET")
    assert report["extra"] == {"a": 1, "b": 2, "tags": {"plan": "free", "tenant": "acme", "own": 1}}
    report = capture(errors, server, None, {"extra": {"tags": ["a"]}}, tags={"plan": "pro"}, user="u-2")
    assert (report["user_id"], report["extra"]) == ("u-2", {"tags": {"plan": "pro", "value": ["a"]}})


LEVELS = {"fatal": "critical", "WARN": "warning", "log": "info", "debug": "debug", "loud": None, 7: None, None: None}


@pytest.mark.parametrize(("level", "expected"), LEVELS.items())
def test_levels_of_other_tools_are_understood(
    level: Any, expected: str | None, errors: ErrorClient, server: ScriptedServer
) -> None:
    assert capture(errors, server, level=level).get("level") == expected


USERS: list[tuple[Any, str | None]] = [
    ({"id": 7, "username": "eve", "email": "eve@shop.example"}, "7"),
    ({"id": None, "username": "eve", "email": "eve@shop.example"}, "eve"),
    ({"email": "eve@shop.example"}, "eve@shop.example"),
    ({"ip_address": "203.0.113.7"}, None),
    (b"u-1", "u-1"),
    (object(), None),
]


@pytest.mark.parametrize(("user", "expected"), USERS)
def test_user_is_reported_by_id_name_or_address(
    user: Any, expected: str | None, errors: ErrorClient, server: ScriptedServer
) -> None:
    assert capture(errors, server, user=user).get("user_id") == expected


def test_exception_being_handled_is_the_default(errors: ErrorClient, server: ScriptedServer) -> None:
    with sent_report(errors, server) as report:
        try:
            raise KeyError("cart")
        except KeyError:
            errors.capture_exception()
    assert (report["exception_type"], report["message"]) == ("KeyError", "'cart'")
    with sent_report(errors, server) as report:
        try:
            raise KeyError("cart")
        except KeyError:
            errors.capture_exception(sys.exc_info())
    assert 'raise KeyError("cart")' in report["traceback"]


def test_nothing_is_reported_without_an_exception(
    errors: ErrorClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    errors.capture_exception()
    errors.capture_exception((None, None, None))
    assert errors.flush()
    assert server.requests == []
    assert "no exception is being handled" in caplog.text


class PaymentError(Exception):
    monlight_fingerprint = ("payment", 7)


class SubscriptionError(PaymentError):
    pass


class PropertyError(Exception):
    @property
    def monlight_fingerprint(self) -> list[str]:
        raise AssertionError


def error_with(fingerprint: Any) -> Exception:
    error = SubscriptionError("boom")
    error.monlight_fingerprint = fingerprint
    return error


FINGERPRINTS: list[tuple[Exception, Any, list[str] | None]] = [
    (SubscriptionError("boom"), None, ["payment", "7"]),
    (error_with(["own"]), None, ["own"]),
    (error_with(["own"]), ["argument"], ["argument"]),
    (error_with(None), None, None),
    (PropertyError("boom"), None, None),
    (ValueError("boom"), "one text", ["one text"]),
    (ValueError("boom"), [None, {}, b"bytes", True, ""], ["bytes", "True"]),
    (ValueError("boom"), [str(number) for number in range(12)], [str(number) for number in range(10)]),
    (ValueError("boom"), ["x" * 201], ["x" * 199 + "…"]),
    (ValueError("boom"), ["password=s3cret-text"], ["password=[removed]"]),
    (ValueError("boom"), {"a": 1}, None),
]


@pytest.mark.parametrize(("error", "argument", "expected"), FINGERPRINTS)
def test_fingerprint_is_an_argument_or_an_attribute(
    error: Exception, argument: Any, expected: list[str] | None, errors: ErrorClient, server: ScriptedServer
) -> None:
    assert capture(errors, server, error, fingerprint=argument).get("fingerprint") == expected


def test_secret_of_another_part_is_removed_from_fingerprint_and_tags(
    errors: ErrorClient, server: ScriptedServer
) -> None:
    tags = {"copy": "s3cret-token", "api_key": "s3cret-key"}
    report = capture(
        errors, server, None, {"extra": {"token": "s3cret-token"}}, fingerprint=["s3cret-token"], tags=tags
    )
    assert report["fingerprint"] == ["[removed]"]
    assert report["extra"]["tags"] == {"copy": "[removed]", "api_key": "[removed]"}
    assert "s3cret" not in json.dumps(report)


def test_fingerprint_of_a_log_record_is_an_attribute(errors: ErrorClient, server: ScriptedServer) -> None:
    logger = logging.getLogger("shop.fingerprints")
    logger.propagate = False
    handler = MonlightHandler(errors)
    logger.addHandler(handler)
    for error in (None, ValueError("boom")):
        with sent_report(errors, server) as report:
            logger.error("no stock", extra={"monlight_fingerprint": ["stock"], "cart": 7}, exc_info=error)
        assert report["fingerprint"] == ["stock"]
        assert report["extra"]["cart"] == 7
        assert "monlight_fingerprint" not in report["extra"]
    logger.removeHandler(handler)


def test_message_has_the_stack_of_the_caller(errors: ErrorClient, server: ScriptedServer) -> None:
    with sent_report(errors, server) as report:
        errors.capture_message("cart is empty", fingerprint=["cart"], tags={"tenant": "acme"}, extras={"cart": 7})
    assert (report["exception_type"], report["message"], report["level"]) == ("Message", "cart is empty", "info")
    assert report["fingerprint"] == ["cart"]
    assert report["extra"] == {"cart": 7, "tags": {"tenant": "acme"}}
    *_, frame, code, end = report["traceback"].split("\n")
    assert frame.endswith("in test_message_has_the_stack_of_the_caller")
    assert code.strip().startswith("errors.capture_message(")
    assert end == ""


def test_messages_are_grouped_by_the_line_that_reports_them(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY)
    for cart in range(3):
        errors.capture_message(f"cart {cart} is empty", "warning")
    errors.capture_message(404, "loud")  # type: ignore[arg-type]
    assert errors.flush()
    groups = {group["message"]: (group["count"], group["level"], group["location"]) for group in tracker.details()}
    assert {message: (count, level) for message, (count, level, _) in groups.items()} == {
        "cart 0 is empty": (3, "warning"),
        "404": (1, "info"),
    }
    assert all("test_capture.py:" in location for _, _, location in groups.values())


def report_from(depth: int, errors: ErrorClient) -> None:
    # Alternates between two lines, because a stack does not list repetitions of one frame.
    if depth == 0:
        errors.capture_message("deep")
    elif depth % 2:
        report_from(depth - 1, errors)
    else:
        report_from(depth - 1, errors)


def test_stack_of_a_message_is_bounded(errors: ErrorClient, server: ScriptedServer) -> None:
    with sent_report(errors, server) as report:
        report_from(200, errors)
    assert report["traceback"].count('  File "') == 20


def test_functions_report_through_the_client_of_init(tracker: Tracker) -> None:
    script = """
import monlight
monlight.capture_message("before init")
monlight.init(error_tracker_url=errors_url, api_key=key, project="shop")
monlight.set_user({"username": "eve"})
monlight.set_tag("tenant", "acme")
monlight.set_tag("removed", 1)
monlight.set_tag("removed", None)
monlight.capture_message("cart is empty", "warning")
try:
    {}["cart"]
except KeyError as error:
    monlight.capture_exception(error, level="info", tags={"step": "pay"}, user={"id": 7})
    monlight.capture_exception(extras={"cart": 7})
"""
    result = run_script(script, tracker)
    assert result.returncode == 0, result.stderr
    assert "capture_message failed: init was not called" in result.stderr
    message, error = sorted(tracker.details(), key=lambda group: str(group["exception_type"]), reverse=True)
    assert (message["exception_type"], message["level"], message["project"]) == ("Message", "warning", "shop")
    assert message["location"] == "<string>:13"
    assert message["occurrences"][0]["user_id"] == "eve"
    assert message["occurrences"][0]["extra"] == {"tags": {"tenant": "acme"}}
    last, first = error["occurrences"]
    assert (first["user_id"], first["extra"]) == ("7", {"tags": {"tenant": "acme", "step": "pay"}})
    assert (last["user_id"], last["extra"]) == ("eve", {"cart": 7, "tags": {"tenant": "acme"}})


def test_odd_arguments_do_not_cost_the_report(errors: ErrorClient, server: ScriptedServer) -> None:
    report = capture(errors, server, tags=["a"], extras=["b"], fingerprint=object(), user=object(), contexts=object())
    assert report["extra"] == {"value": ["b"], "contexts": "<builtins.object>"}
    report = capture(errors, server, tags={7: [1], "none": None, "long": "x" * 300})
    assert report["extra"]["tags"] == {"7": "<builtins.list>", "long": "x" * 199 + "…"}
