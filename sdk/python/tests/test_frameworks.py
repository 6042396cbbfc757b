"""Real frameworks under real servers: every request and every exception arrives exactly once."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from services import PATIENCE_S, Collector, Tracker, address, application, visitor

GOOD, BROKEN, MISSING = 120, 60, 20
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "--workers", "4", "--graceful-timeout", "10"]
# With several workers uvicorn says a port before it listens there, and not which one it has found.
FREE_PORT = "a free port"
UVICORN = ["uvicorn", "--port", "0", "--no-access-log"]


@dataclass(frozen=True)
class Stack:
    """An application, the server that runs it, and how its framework writes the templates of paths."""

    command: list[str]
    ready: str
    item: str = "/api/items/{item}"
    broken: str = "/api/broken/{item}"


STACKS = {
    "fastapi-uvicorn": Stack([*UVICORN, "fastapi_app:app"], "running on"),
    "fastapi-uvicorn-4-workers": Stack(
        [*UVICORN, "--workers", "4", "--port", FREE_PORT, "fastapi_app:app"], "startup complete"
    ),
    "fastapi-gunicorn-prefork": Stack(
        [*GUNICORN, "--preload", "-k", "uvicorn.workers.UvicornWorker", "fastapi_app:app"], "Listening at"
    ),
    "starlette-uvicorn": Stack([*UVICORN, "--loop", "uvloop", "starlette_app:app"], "running on"),
    "flask-gunicorn-prefork": Stack(
        [*GUNICORN, "--preload", "flask_app:app"], "Listening at", "/api/items/<int:item>", "/api/broken/<int:item>"
    ),
    "flask-gunicorn-threads": Stack(
        [*GUNICORN, "--threads", "4", "flask_app:app"],
        "Listening at",
        "/api/items/<int:item>",
        "/api/broken/<int:item>",
    ),
    "django-gunicorn-prefork": Stack(
        [*GUNICORN, "--preload", "django_app:application"],
        "Listening at",
        "/api/items/<int:item>",
        "/api/broken/<int:item>",
    ),
    "django-uvicorn": Stack(
        [*UVICORN, "django_app:asgi"], "running on", "/api/items/<int:item>", "/api/broken/<int:item>"
    ),
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_every_request_and_every_exception_counts_once(stack: Stack, tracker: Tracker, collector: Collector) -> None:
    # Below those that the kernel gives to whoever asks for any.
    port = str(20_000 + os.getpid() % 10_000)
    command = [port if word == FREE_PORT else word for word in stack.command]
    # No flush before the end: what is sent then is all there is.
    with application(command, stack.ready, tracker, collector, FLUSH_INTERVAL="60") as process:
        base = f"http://127.0.0.1:{port}" if port in command else address(process)

        def send(number: int) -> int:
            if number < GOOD:
                return client.get(f"{base}/api/items/{number}").status_code
            if number < GOOD + BROKEN:
                secret = {"Authorization": "Bearer s3cret", "X-Request-ID": "r-1"}
                return client.post(f"{base}/api/broken/{number}?token=s3cret&page=2", headers=secret).status_code
            return client.get(f"{base}/nowhere/{number}").status_code

        with ThreadPoolExecutor(8) as pool, visitor() as client:
            statuses = list(pool.map(send, range(GOOD + BROKEN + MISSING)))
        output = process.end(signal.SIGTERM)

    assert [statuses.count(status) for status in (200, 500, 404)] == [GOOD, BROKEN, MISSING], output
    expected = {stack.item: GOOD, stack.broken: BROKEN, "(unmatched)": MISSING}
    assert collector.totals("http_requests_total", "endpoint") == expected, output
    assert collector.counts("http_request_duration_seconds", "endpoint") == expected
    assert collector.totals("http_requests_total", "status") == {"200": GOOD, "500": BROKEN, "404": MISSING}
    assert collector.totals("http_requests_total", "method") == {"GET": GOOD + MISSING, "POST": BROKEN}

    live = collector.get("/api/metrics/releases")["releases"]
    assert [(release["release"], release["project"]) for release in live] == [("1.4.2", "shop")]

    (group,) = tracker.details()
    assert group["count"] == BROKEN
    assert (group["exception_type"], group["project"]) == ("ValueError", "shop")
    assert (group["environment"], group["release"]) == ("tests", "1.4.2")
    occurrence = group["occurrences"][0]
    assert re.fullmatch(rf"{base}/api/broken/\d+\?token=\[removed\]&page=2", occurrence["request_url"])
    assert occurrence["request_method"] == "POST"
    headers = {name.lower(): value for name, value in occurrence["request_headers"].items()}
    assert headers["x-request-id"] == "r-1"
    assert "authorization" not in headers
    assert "s3cret" not in str(group)


def test_what_fastapi_can_do_besides(tracker: Tracker, collector: Collector) -> None:
    with application([*UVICORN, "fastapi_app:app"], "running on", tracker, collector) as process:
        base = address(process)
        with visitor(base) as client:
            assert client.get("/teapot").status_code == 418
            assert client.get("/stream").text == "0\n1\n2\n"
            assert client.get("/background").text == "accepted"
            assert client.get("/sync-broken/7").json() == {"detail": "Internal server error"}
            for shop in ("east", "west"):
                assert client.get(f"/shops/{shop}/carts/{shop}-1").json() == {"cart": f"{shop}-1"}
            assert client.get("/shops/north/nowhere").status_code == 404
            assert client.request("BREW", "/api/items/1").status_code == 405
        process.end()
    assert collector.totals("http_requests_total", "endpoint") == {
        "/teapot": 1,
        "/stream": 1,
        "/background": 1,
        "/sync-broken/{item}": 1,
        "/shops/{shop}/carts/{cart}": 2,
        "/shops/{shop}/{path}": 1,
        "/api/items/{item}": 1,
    }
    assert collector.totals("http_requests_total", "status") == {"200": 4, "418": 1, "500": 1, "404": 1, "405": 1}
    assert collector.totals("http_requests_total", "method") == {"GET": 7, "OTHER": 1}
    (stream,) = collector.buckets("http_request_duration_seconds", labels="endpoint:/stream")
    assert stream["min"] >= 0.1, "a stream is measured to its end"
    (background,) = collector.buckets("http_request_duration_seconds", labels="endpoint:/background")
    assert background["max"] < 0.3, "what goes on after the answer is not measured"
    assert {group["exception_type"] for group in tracker.groups()} == {"KeyError", "RuntimeError"}
    assert tracker.count() == 2


def test_a_flask_stream_that_breaks_is_reported(tracker: Tracker, collector: Collector) -> None:
    with application([*GUNICORN, "flask_app:app"], "Listening at", tracker, collector) as process:
        with visitor(address(process)) as client:
            assert client.get("/teapot").status_code == 418
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/stream")
        process.end()
    (group,) = tracker.details()
    assert (group["exception_type"], group["count"]) == ("OSError", 1)
    assert group["occurrences"][0]["request_url"].endswith("/stream")
    assert collector.totals("http_requests_total", "endpoint") == {"/teapot": 1, "/stream": 1}


def test_async_views_of_django_are_reported(tracker: Tracker, collector: Collector) -> None:
    with application([*UVICORN, "django_app:asgi"], "running on", tracker, collector) as process:
        assert httpx.get(f"{address(process)}/api/async-broken/7", timeout=PATIENCE_S).status_code == 500
        process.end()
    assert tracker.only_report()["exception_type"] == "KeyError"
    assert collector.totals("http_requests_total", "endpoint") == {"/api/async-broken/<int:item>": 1}
