"""Contents of reports, and their acceptance by the real tracker for unusual exceptions and contexts."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import os
import sys
from typing import Any, NoReturn

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monlight import ErrorClient
from services import KEY, Tracker


def raise_and_catch(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_report_contains_exception_and_request_context(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url + "/", KEY, "shop", environment="staging", release="1.4.2")
    context = {
        "request_url": "https://user:pass@shop.example/cart?id=7&access_token=s3cret#key=s3cret",
        "request_method": "POST",
        "request_headers": {"Accept": "*/*", "X-Api-Key": "s3cret", "Referer": "https://shop.example/?sid=s3cret"},
        "user_id": 42,
        "extra": {"cart": {"items": [1, 2], "Password": "s3cret"}},
    }
    asyncio.run(errors.report_error(raise_and_catch(ValueError("cart is empty")), request_context=context))
    assert errors.flush()
    report = tracker.only_report()
    assert (report["project"], report["environment"], report["release"]) == ("shop", "staging", "1.4.2")
    assert (report["exception_type"], report["message"], report["level"]) == ("ValueError", "cart is empty", "error")
    assert "test_reports.py:" in report["location"]
    (occurrence,) = report["occurrences"]
    assert occurrence["request_url"] == "https://shop.example/cart?id=7&access_token=[removed]#key=[removed]"
    assert occurrence["request_method"] == "POST"
    assert occurrence["request_headers"] == {"Accept": "*/*", "Referer": "https://shop.example/?sid=[removed]"}
    assert occurrence["user_id"] == "42"
    assert occurrence["extra"] == {"cart": {"items": [1, 2], "Password": "[removed]"}}
    assert "s3cret" not in str(report)


def test_excluded_headers_are_not_reported(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY, excluded_headers={"X-Tenant"})
    headers = {"x-tenant": "acme", "Accept": "*/*", "Authorization": "Basic s3cret", "Cookie": "a=s3cret"}
    errors.capture_exception(raise_and_catch(ValueError()), {"request_headers": headers})
    assert errors.flush()
    assert tracker.only_report()["occurrences"][0]["request_headers"] == {"Accept": "*/*"}


def test_causes_are_reported_and_the_last_exception_determines_the_group(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY)
    try:
        try:
            os.environ["NO_CART"]
        except KeyError as cause:
            raise RuntimeError("no cart") from cause
    except RuntimeError as error:
        errors.capture_exception(error)
    assert errors.flush()
    report = tracker.only_report()
    assert report["exception_type"] == "RuntimeError"
    assert "KeyError: 'NO_CART'" in report["traceback"]
    assert "direct cause" in report["traceback"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups require Python 3.11")
def test_members_of_an_exception_group_are_reported(tracker: Tracker) -> None:
    members = [raise_and_catch(ValueError("first")), raise_and_catch(KeyError("second"))]
    errors = ErrorClient(tracker.url, KEY)
    group = vars(builtins)["ExceptionGroup"]("several", members)
    errors.capture_exception(raise_and_catch(group))
    assert errors.flush()
    report = tracker.only_report()
    assert (report["exception_type"], report["message"]) == ("ExceptionGroup", "several (2 sub-exceptions)")
    assert "ValueError: first" in report["traceback"]
    assert "KeyError: 'second'" in report["traceback"]


def test_local_variables_are_reported_only_if_enabled(tracker: Tracker) -> None:
    def fail() -> NoReturn:
        cart, password = {"items": 3}, "s3cret"
        raise ValueError(f"{len(cart)}, {len(password)}")

    for include_locals, release in ((False, "without"), (True, "with")):
        errors = ErrorClient(tracker.url, KEY, release=release, include_locals=include_locals)
        try:
            fail()
        except ValueError as error:
            errors.capture_exception(error, {"extra": {"more": 1}})
        assert errors.flush()
    with_locals, without_locals = tracker.only_report()["occurrences"]
    assert without_locals["extra"] == {"more": 1}
    frames = with_locals["extra"]["locals"]
    innermost = next(iter(frames))
    assert innermost.endswith("in fail")
    assert frames[innermost] == {"cart": {"items": 3}, "password": "[removed]"}
    assert with_locals["extra"]["more"] == 1


class RaisingInStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str failed")

    def __repr__(self) -> str:
        raise RuntimeError("repr failed")


class ExitingInStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class InterruptedInStr(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class WithoutDict(Exception):
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("dict failed")


class WithoutAttributes(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"{name} failed")


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class SlottedError(Exception):
    __slots__ = ("code",)


def recurse_forever() -> None:
    recurse_forever()


def recursion_error() -> BaseException:
    try:
        recurse_forever()
    except RecursionError as error:
        return error
    raise AssertionError


def exception_with_long_cause_chain() -> BaseException:
    error: BaseException = ValueError("first")
    for number in range(3_000):
        wrapper = ValueError(number)
        wrapper.__cause__ = error
        error = wrapper
    return error


UNUSUAL_EXCEPTIONS: dict[str, Any] = {
    "str and repr raise": lambda: raise_and_catch(RaisingInStr()),
    "str raises SystemExit": lambda: raise_and_catch(ExitingInStr()),
    "str raises KeyboardInterrupt": lambda: raise_and_catch(InterruptedInStr()),
    "dict raises": lambda: raise_and_catch(WithoutDict()),
    "all attributes raise": lambda: raise_and_catch(WithoutAttributes()),
    "frozen dataclass": lambda: raise_and_catch(FrozenError(7)),
    "slots": lambda: raise_and_catch(SlottedError()),
    "never raised": lambda: ValueError("never raised"),
    "recursion": recursion_error,
    "long cause chain": exception_with_long_cause_chain,
    "3 MB message": lambda: raise_and_catch(ValueError("x" * 3_000_000)),
    "control characters": lambda: raise_and_catch(ValueError("\x01" * 200_000)),
    "lone surrogate and NUL": lambda: raise_and_catch(ValueError("\ud800\0")),
    "long type name": lambda: raise_and_catch(type("N" * 500, (Exception,), {})("boom")),
    "syntax error": lambda: raise_and_catch(SyntaxError("bad", ("file.py", 1, 2, "\0\ud800", 1, 3))),
    "system exit": lambda: raise_and_catch(SystemExit(3)),
}


class RaisingMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("items failed")


@pytest.mark.parametrize("make", UNUSUAL_EXCEPTIONS.values(), ids=UNUSUAL_EXCEPTIONS.keys())
def test_unusual_exceptions_are_delivered(make: Any, tracker: Tracker) -> None:
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    extra = {
        "object": object(),
        "raising": RaisingInStr(),
        "nan": float("nan"),
        "huge": 10**5_000,
        "bytes": b"\xff",
        "many": list(range(100_000)),
        "wide": {str(number): "x" * 10_000 for number in range(1_000)},
        "cyclic": cyclic,
        "raising mapping": RaisingMapping(),
        ("a", 1): {1, 2},
    }
    errors = ErrorClient(tracker.url, KEY, include_locals=True)
    errors.capture_exception(
        make(), {"extra": extra, "request_headers": {"x": "\0" * 10_000}, "request_url": "http://["}
    )
    assert errors.flush()
    assert errors.dropped == 0
    report = tracker.only_report()
    assert report["count"] == 1
    extra = report["occurrences"][0]["extra"]
    if "monlight" not in extra:
        assert extra["nan"] == "nan", "the other values are kept"
        assert extra["bytes"] == "<bytes, 1 items>"
        assert extra["cyclic"] == {"self": "<circular reference>"}


class User:
    def __init__(self) -> None:
        self.id = 7


REPAIRED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"user_id": {"id": 7, "email": "bob@shop.example"}}, {"user_id": "7"}),
    ({"user_id": User()}, {"user_id": "7"}),
    ({"user_id": b"bob"}, {"user_id": "bob"}),
    ({"user_id": True}, {"user_id": "True"}),
    ({"user_id": {"email": "bob@shop.example"}}, {"user_id": None}),
    ({"user_id": object()}, {"user_id": None}),
    ({"request_method": b"GET", "request_url": httpx.URL("/a")}, {"request_method": "GET", "request_url": "/a"}),
    ({"request_method": object(), "request_url": RaisingInStr()}, {"request_method": None, "request_url": None}),
    ({"request_headers": [(b"Accept", b"*/*"), ("X-N", 7)]}, {"request_headers": {"Accept": "*/*", "X-N": "7"}}),
    ({"request_headers": httpx.Headers({"a": "b"})}, {"request_headers": {"a": "b"}}),
    ({"request_headers": 7}, {"request_headers": {}}),
    ({"extra": ["a"]}, {"extra": {"value": ["a"]}}),
]


def test_fields_of_other_types_are_repaired(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY, release=142, environment=b"e")  # type: ignore[arg-type]
    for number, (context, expected) in enumerate(REPAIRED):
        errors.capture_exception(raise_and_catch(ValueError(number)), context)
        assert errors.flush()
        occurrence = tracker.only_report()["occurrences"][0]
        for name, value in expected.items():
            assert (occurrence[name] or None) == (value or None), context
    assert tracker.only_report()["release"] == "142"
    ErrorClient(tracker.url, KEY, project=RaisingInStr(), release=RaisingInStr())  # type: ignore[arg-type]


def test_removed_value_is_removed_from_all_parts(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "s3cret-env")
    errors = ErrorClient(tracker.url, KEY, excluded_headers={"X-Tenant"})
    context = {
        "request_url": "https://shop.example/reset/s3cret-cookie?token=s3cret-query",
        "request_headers": {
            "Authorization": "Bearer s3cret-header",
            "Cookie": "a=s3cret-cookie",
            "X-Tenant": "s3cret-tenant",
            "X-Forwarded-For": "203.0.113.7",
            "X-Copy": "s3cret-query",
        },
        "user_id": "s3cret-cookie",
        "extra": {"copy": "s3cret-header s3cret-tenant s3cret-env", "args": ["s3cret-query"], "peer": "203.0.113.7"},
    }
    message = f"s3cret-header s3cret-cookie https://bob:s3cret-url@h/ password='s3cret-text' {KEY}"
    try:
        try:
            raise KeyError("s3cret-query 203.0.113.7")
        except KeyError as cause:
            raise ValueError(message) from cause
    except ValueError as error:
        errors.capture_exception(error, context)
    assert errors.flush()
    report = tracker.only_report()
    removed = "[removed]"
    assert report["message"] == f"{removed} {removed} https://h/ password='{removed}' {removed}"
    assert "203.0.113.7" not in str(report)
    # The literals in this function are code in the traceback, except for those that equal a removed value.
    assert "s3cret" not in str(report).replace("s3cret-url", "").replace("s3cret-text", "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)) | st.integers(), inner),
)
TEXT = st.text(st.characters(codec=None))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=TEXT, url=TEXT, method=TEXT, headers=st.dictionaries(TEXT, TEXT), extra=JSON, user=TEXT)
def test_tracker_accepts_arbitrary_strings_and_json(
    tracker: Tracker, message: str, url: str, method: str, headers: dict[str, str], extra: Any, user: str
) -> None:
    count_before = tracker.count()
    context = {
        "request_url": url,
        "request_method": method,
        "request_headers": headers,
        "extra": extra,
        "user_id": user,
    }
    errors = ErrorClient(tracker.url, KEY)
    errors.capture_exception(raise_and_catch(ValueError(message)), context)
    assert errors.flush()
    assert errors.dropped == 0
    assert tracker.count() == count_before + 1
    errors._sender._close_connection()


INVALID_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "no URL": (None, KEY),
    "no key": ("http://127.0.0.1:1", None),
    "invalid URL": ("not a URL", KEY),
    "invalid port": ("http://127.0.0.1:99999999", KEY),
    "invalid characters in the key": ("http://127.0.0.1:1", "kéy\n"),
    "project of a wrong type": ("http://127.0.0.1:1", KEY, object()),
}


@pytest.mark.parametrize("arguments", INVALID_ARGUMENTS.values(), ids=INVALID_ARGUMENTS.keys())
def test_invalid_arguments_do_not_raise(arguments: tuple[Any, ...], caplog: pytest.LogCaptureFixture) -> None:
    errors = ErrorClient(*arguments)
    errors.capture_exception(
        raise_and_catch(ValueError("boom")), {"extra": "not a mapping", "request_headers": "not a mapping"}
    )
    errors.capture_exception("not an exception", "not a context")  # type: ignore[arg-type]
    errors.flush(0.3)
    assert "failed" in caplog.text
    errors._reset_in_child()


def test_same_exception_object_raised_again_counts_again(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY)
    same_error = ValueError("no cart")
    for _ in range(3):
        errors._report_once(raise_and_catch(same_error), "middleware")
        errors._report_once(same_error, "log")
    assert errors.flush()
    assert tracker.count() == 3
