"""What a report says, and that the real tracker takes it, whatever the exception is."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import os
import sys
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monlight import ErrorClient
from services import KEY, Tracker


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_report_says_what_is_known(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url + "/", KEY, "shop", environment="staging", release="1.4.2")
    context = {
        "request_url": "https://user:pass@shop.example/cart?id=7&access_token=s3cret#key=s3cret",
        "request_method": "POST",
        "request_headers": {"Accept": "*/*", "X-Api-Key": "s3cret", "Referer": "https://shop.example/?sid=s3cret"},
        "user_id": 42,
        "extra": {"cart": {"items": [1, 2], "Password": "s3cret"}},
    }
    asyncio.run(errors.report_error(raised(ValueError("cart is empty")), request_context=context))
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


def test_headers_that_are_excluded_are_left_out(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY, excluded_headers={"X-Tenant"})
    headers = {"x-tenant": "acme", "Accept": "*/*", "Authorization": "Basic s3cret", "Cookie": "a=s3cret"}
    errors.report_error_sync(raised(ValueError()), {"request_headers": headers})
    assert errors.flush()
    assert tracker.only_report()["occurrences"][0]["request_headers"] == {"Accept": "*/*"}


def test_causes_and_contexts_are_told_and_the_last_one_names_the_group(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY)
    try:
        try:
            os.environ["NO_CART"]
        except KeyError as cause:
            raise RuntimeError("no cart") from cause
    except RuntimeError as error:
        errors.report_error_sync(error)
    assert errors.flush()
    report = tracker.only_report()
    assert report["exception_type"] == "RuntimeError"
    assert "KeyError: 'NO_CART'" in report["traceback"]
    assert "direct cause" in report["traceback"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has exception groups since 3.11")
def test_the_members_of_a_group_are_told(tracker: Tracker) -> None:
    members = [raised(ValueError("first")), raised(KeyError("second"))]
    errors = ErrorClient(tracker.url, KEY)
    group = vars(builtins)["ExceptionGroup"]("several", members)
    errors.report_error_sync(raised(group))
    assert errors.flush()
    report = tracker.only_report()
    assert (report["exception_type"], report["message"]) == ("ExceptionGroup", "several (2 sub-exceptions)")
    assert "ValueError: first" in report["traceback"]
    assert "KeyError: 'second'" in report["traceback"]


def test_locals_are_told_only_when_asked_for(tracker: Tracker) -> None:
    def fail() -> NoReturn:
        cart, password = {"items": 3}, "s3cret"
        raise ValueError(f"{len(cart)}, {len(password)}")

    for include_locals, release in ((False, "without"), (True, "with")):
        errors = ErrorClient(tracker.url, KEY, release=release, include_locals=include_locals)
        try:
            fail()
        except ValueError as error:
            errors.report_error_sync(error, {"extra": {"more": 1}})
        assert errors.flush()
    after, before = tracker.only_report()["occurrences"]
    assert before["extra"] == {"more": 1}
    frames = after["extra"]["locals"]
    innermost = next(iter(frames))
    assert innermost.endswith("in fail")
    assert frames[innermost] == {"cart": {"items": 3}, "password": "[removed]"}
    assert after["extra"]["more"] == 1


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Slotted(Exception):
    __slots__ = ("code",)


def endless() -> None:
    endless()


def deep() -> BaseException:
    try:
        endless()
    except RecursionError as error:
        return error
    raise AssertionError


def long_chain() -> BaseException:
    error: BaseException = ValueError("the first")
    for number in range(3_000):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    return error


HARD: dict[str, Any] = {
    "without a message": lambda: raised(Nasty()),
    "frozen": lambda: raised(Frozen(7)),
    "slotted": lambda: raised(Slotted()),
    "never raised": lambda: ValueError("never raised"),
    "a recursion": deep,
    "a chain": long_chain,
    "a message of megabytes": lambda: raised(ValueError("x" * 3_000_000)),
    "control characters": lambda: raised(ValueError("\x01" * 200_000)),
    "characters that are none": lambda: raised(ValueError("\ud800\0")),
    "a name of its own": lambda: raised(type("N" * 500, (Exception,), {})("boom")),
    "an error of syntax": lambda: raised(SyntaxError("bad", ("file.py", 1, 2, "\0\ud800", 1, 3))),
    "a system exit": lambda: raised(SystemExit(3)),
}


class HardMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize("make", HARD.values(), ids=HARD.keys())
def test_every_exception_arrives(make: Any, tracker: Tracker) -> None:
    loop: dict[str, Any] = {}
    loop["itself"] = loop
    extra = {
        "object": object(),
        "nasty": Nasty(),
        "nan": float("nan"),
        "huge": 10**5_000,
        "bytes": b"\xff",
        "many": list(range(100_000)),
        "wide": {str(number): "x" * 10_000 for number in range(1_000)},
        "loop": loop,
        "hard": HardMapping(),
        ("a", 1): {1, 2},
    }
    errors = ErrorClient(tracker.url, KEY, include_locals=True)
    errors.report_error_sync(
        make(), {"extra": extra, "request_headers": {"x": "\0" * 10_000}, "request_url": "http://["}
    )
    assert errors.flush()
    assert errors.dropped == 0
    assert tracker.count() == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)) | st.integers(), inner),
)
TEXT = st.text(st.characters(codec=None))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=TEXT, url=TEXT, method=TEXT, headers=st.dictionaries(TEXT, TEXT), extra=JSON, user=TEXT)
def test_the_real_tracker_takes_everything(
    tracker: Tracker, message: str, url: str, method: str, headers: dict[str, str], extra: Any, user: str
) -> None:
    before = tracker.count()
    context = {
        "request_url": url,
        "request_method": method,
        "request_headers": headers,
        "extra": extra,
        "user_id": user,
    }
    errors = ErrorClient(tracker.url, KEY)
    errors.report_error_sync(raised(ValueError(message)), context)
    assert errors.flush()
    assert errors.dropped == 0
    assert tracker.count() == before + 1
    errors._sender._close()


WRONG: dict[str, tuple[Any, ...]] = {
    "no URL": (None, KEY),
    "no key": ("http://127.0.0.1:1", None),
    "a URL that is none": ("not a URL", KEY),
    "a port that is none": ("http://127.0.0.1:99999999", KEY),
    "a key that cannot be sent": ("http://127.0.0.1:1", "kéy\n"),
    "a project that is none": ("http://127.0.0.1:1", KEY, object()),
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_nothing_raises_whatever_it_is_given(arguments: tuple[Any, ...], caplog: pytest.LogCaptureFixture) -> None:
    errors = ErrorClient(*arguments)
    errors.report_error_sync(raised(ValueError("boom")), {"extra": "no mapping", "request_headers": "none either"})
    errors.report_error_sync("no exception", "no context")  # type: ignore[arg-type]
    errors.flush(0.3)
    assert "Monlight" in caplog.text
    errors._forget()


def test_one_exception_that_is_raised_again_counts_again(tracker: Tracker) -> None:
    errors = ErrorClient(tracker.url, KEY)
    always_the_same = ValueError("no cart")
    for _ in range(3):
        errors._report_once(raised(always_the_same), "middleware")
        errors._report_once(always_the_same, "log")
    assert errors.flush()
    assert tracker.count() == 3
