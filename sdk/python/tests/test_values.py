"""Conversion of local variables and `extra`: what is converted, what is only named, and that no code of it runs."""

from __future__ import annotations

import collections
import dataclasses
import enum
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import pydantic
import pytest

from monlight._scrub import Scrubber
from monlight._serialize import CPU_TIME_MAX_S, Serializer
from services import run_script


def convert(value: object) -> Any:
    """Converts a value and removes the copies of its secrets, like a report."""
    scrubber = Scrubber()
    return scrubber.remove_copies(Serializer(scrubber).convert(value))


class Lazy:
    """Object that fails the test if anything but its type is used."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was read")

    def _fail(self, *_: Any) -> Any:
        raise AssertionError("code of the application ran")

    __repr__ = __str__ = __iter__ = __len__ = __eq__ = __bool__ = __hash__ = __getitem__ = __fspath__ = _fail


class LazyDict(dict[str, Any]):
    __iter__ = __len__ = __getitem__ = items = keys = values = __contains__ = Lazy._fail


class LazyList(list[Any]):
    __iter__ = __len__ = __getitem__ = Lazy._fail


class LazyString(str):
    __str__ = __len__ = __getitem__ = __format__ = Lazy._fail


class LazyNumber(float):
    __float__ = __str__ = __repr__ = Lazy._fail


# Functions that create the values, because pytest examines parameters.
LAZY: list[tuple[Callable[[], object], object]] = [
    (Lazy, f"<{__name__}.Lazy>"),
    (lambda: [Lazy(), {"a": Lazy()}], [f"<{__name__}.Lazy>", {"a": f"<{__name__}.Lazy>"}]),
    (lambda: LazyDict(a=1), {"a": 1}),
    (lambda: LazyList([1, 2]), [1, 2]),
    (lambda: LazyString("text"), "text"),
    (lambda: LazyNumber(1.5), 1.5),
    (lambda: ValueError(Lazy()), "<builtins.ValueError>"),
    (lambda: vars(Lazy)["_fail"], f"<function {__name__}.Lazy._fail>"),
    (lambda: collections.UserDict({"a": 1}), "<collections.UserDict>"),
    (lambda: (number for number in range(3)), "<builtins.generator>"),
]


@pytest.mark.parametrize(("create", "expected"), LAZY)
def test_no_code_of_an_object_runs(create: Callable[[], object], expected: object) -> None:
    assert convert({"a": create()}) == {"a": expected}


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Config:
    user: str
    password: str
    hidden: object = dataclasses.field(default="x", repr=False)


@dataclasses.dataclass(slots=True)
class Slotted:
    items: int
    api_key: str


class Login(NamedTuple):
    user: str
    password: str


class Model(pydantic.BaseModel):
    user: str
    password: str
    pin: pydantic.SecretStr


R = "[removed]"
VALUES = [
    (None, None),
    (True, True),
    (7, 7),
    (10**30, str(10**30)),
    ([10**5_000], ["<int, 16610 bits>"]),
    (float("nan"), "nan"),
    (b"text", "text"),
    (bytearray(b"text"), "text"),
    (b"\xff\x00", "<bytes, 2 items>"),
    (Decimal("1.5"), "1.5"),
    (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
    (Path("/srv"), "/srv"),
    (Color.RED, "Color.RED"),
    (Config, f"<class {__name__}.Config>"),
    ({1, 2}, [1, 2]),
    (collections.deque([1]), [1]),
    ({"a": 1}.items(), [["a", 1]]),
    ({("a", 1): 2, b"b": 3, 4: 5}, {"['a', 1]": 2, "b": 3, "4": 5}),
    (Config("bob", "hunter2"), {"<type>": f"<{__name__}.Config>", "user": "bob", "password": R}),
    (Slotted(3, "hunter2"), {"<type>": f"<{__name__}.Slotted>", "items": 3, "api_key": R}),
    (Login("bob", "hunter2"), {"<type>": f"<{__name__}.Login>", "user": "bob", "password": R}),
    (
        Model(user="bob", password="hunter2", pin=pydantic.SecretStr("hunter3")),
        {"<type>": f"<{__name__}.Model>", "user": "bob", "password": R, "pin": R},
    ),
    (urlsplit("https://bob:hunter2@h/?token=a&b=c"), "https://h/?token=[removed]&b=c"),
    # Pairs, and other forms of names and values.
    ([(b"authorization", b"hunter2"), (b"accept", b"*/*")], [["authorization", R], ["accept", "*/*"]]),
    (("password", "hunter2"), ["password", R]),
    ({"headers": [["Cookie", "a=hunter2"], ["Accept", "*/*"]]}, {"headers": [["Cookie", R], ["Accept", "*/*"]]}),
    ({"name": "password", "value": "hunter2"}, {"name": "password", "value": R}),
    (["--password", "hunter2", "-v"], ["--password", R, "-v"]),
    (["--password=hunter2", "-v"], ["--password=[removed]", "-v"]),
    ({b"X-Api-Key": "hunter2"}, {"X-Api-Key": R}),
    ({"--password=hunter2": 1}, {"--password=[removed]": R}),
    (b'{"password": "hunter2", "n": 1}', '{"password": "[removed]", "n": 1}'),
    # Copies.
    ({"password": "hunter2", "args": ["x hunter2 y"]}, {"password": R, "args": ["x [removed] y"]}),
    ({"cookies": {"theme": "hunter2"}, "copy": b"hunter2"}, {"cookies": R, "copy": R}),
    ({"auth": ("bob123", "hunter2"), "copy": "hunter2", "user": "bob123"}, {"auth": R, "copy": R, "user": R}),
    ({"pin": 482915, "number": 482915}, {"pin": R, "number": R}),
    ({"client_ip": "203.0.113.7", "peer": ("203.0.113.7", 80)}, {"client_ip": R, "peer": [R, 80]}),
    # Requests.
    ({"environ": {"REQUEST_METHOD": "GET", "a": 1}}, {"environ": "<builtins.dict>"}),
    ({"x": {"type": "http", "asgi": {}, "headers": []}}, {"x": "<builtins.dict>"}),
    ({"x": {"type": "card", "number": 1}}, {"x": {"type": "card", "number": 1}}),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_values_are_converted_without_secrets(value: object, expected: object) -> None:
    assert convert(value) == expected


def test_only_values_that_are_too_deep_or_circular_are_dropped() -> None:
    circular: dict[str, Any] = {"n": 1}
    circular["self"] = circular
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    converted = convert({"circular": circular, "deep": deep, "shared": [deep, deep], "other": 1})
    assert converted["circular"] == {"n": 1, "self": "<circular reference>"}
    assert str(converted["deep"]) == "[[[[[[['…']]]]]]]"
    assert converted["shared"][0] == converted["shared"][1]
    assert converted["other"] == 1


def test_conversion_of_many_large_values_ends_in_time() -> None:
    text = "password=x " * 400
    values = {str(number): [{str(key): text for key in range(100)}] * 100 for number in range(100)}
    serializer = Serializer(Scrubber())
    start_s = time.thread_time()
    for _ in range(20):
        serializer.convert(values)
    assert time.thread_time() - start_s < 5 * CPU_TIME_MAX_S


def test_locals_of_django_run_no_query() -> None:
    script = """
import django
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, DEBUG=True)
django.setup()
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject
from monlight import ErrorClient

class Cart(models.Model):
    class Meta:
        app_label = "shop"

    def __str__(self):
        return str(Cart.objects.count())

with connection.schema_editor() as editor:
    editor.create_model(Cart)
cart = Cart.objects.create()

def fail():
    one, every, lazy = cart, Cart.objects.all(), SimpleLazyObject(lambda: Cart.objects.get())
    values, names = Cart.objects.values(), Cart.objects.values_list("id", flat=True)
    raise ValueError(len(locals()))

errors = ErrorClient("http://127.0.0.1:1", key, include_locals=True)
errors._sender.wake = lambda: None
with CaptureQueriesContext(connection) as queries:
    try:
        fail()
    except ValueError as error:
        context = {"extra": {"every": Cart.objects.all()}, "user_id": SimpleLazyObject(Cart.objects.get)}
        errors.capture_exception(error, context)
print(len(queries), errors._queue.pop().body().decode())
"""
    result = run_script(script)
    queries, body = result.stdout.split(" ", 1)
    assert queries == "0", result.stderr
    assert "<django.db.models.query.QuerySet>" in body
    assert "<django.utils.functional.SimpleLazyObject>" in body
