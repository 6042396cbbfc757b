"""Real frameworks on real servers: every request and every exception is counted exactly once."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from services import TIMEOUT_S, Collector, Tracker, base_url, http_client, run_script, running_application

OK_REQUESTS, FAILING_REQUESTS, UNMATCHED_REQUESTS = 120, 60, 20
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "--workers", "4", "--graceful-timeout", "10"]
# With several workers, uvicorn prints port 0 instead of the port that the system chose, so the test chooses a port.
PORT_PLACEHOLDER = "PORT"
UVICORN = ["uvicorn", "--port", "0", "--no-access-log"]


@dataclass(frozen=True)
class Stack:
    """An application, the server that runs it, and the path templates in the syntax of its framework."""

    command: list[str]
    ready_text: str
    item_template: str = "/api/items/{item}"
    broken_template: str = "/api/broken/{item}"


STACKS = {
    "fastapi-uvicorn": Stack([*UVICORN, "fastapi_app:app"], "running on"),
    "fastapi-uvicorn-4-workers": Stack(
        [*UVICORN, "--workers", "4", "--port", PORT_PLACEHOLDER, "fastapi_app:app"], "startup complete"
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
def test_requests_and_exceptions_are_counted_once(stack: Stack, tracker: Tracker, collector: Collector) -> None:
    # Below the ephemeral port range, so that the kernel does not assign it to another socket.
    port = str(20_000 + os.getpid() % 10_000)
    command = [port if argument == PORT_PLACEHOLDER else argument for argument in stack.command]
    # The interval is longer than the test, so that all metrics are sent by the flush at exit.
    with running_application(command, stack.ready_text, tracker, collector, FLUSH_INTERVAL="60") as process:
        url = f"http://127.0.0.1:{port}" if port in command else base_url(process)

        def send(number: int) -> int:
            if number < OK_REQUESTS:
                return client.get(f"{url}/api/items/{number}").status_code
            if number < OK_REQUESTS + FAILING_REQUESTS:
                headers = {"Authorization": "Bearer s3cret", "X-Request-ID": "r-1"}
                return client.post(f"{url}/api/broken/{number}?token=s3cret&page=2", headers=headers).status_code
            return client.get(f"{url}/nowhere/{number}").status_code

        with ThreadPoolExecutor(8) as pool, http_client() as client:
            statuses = list(pool.map(send, range(OK_REQUESTS + FAILING_REQUESTS + UNMATCHED_REQUESTS)))
        output = process.stop(signal.SIGTERM)

    assert [statuses.count(status) for status in (200, 500, 404)] == [
        OK_REQUESTS,
        FAILING_REQUESTS,
        UNMATCHED_REQUESTS,
    ], output
    expected = {
        stack.item_template: OK_REQUESTS,
        stack.broken_template: FAILING_REQUESTS,
        "(unmatched)": UNMATCHED_REQUESTS,
    }
    assert collector.sums_by_label("http_requests_total", "endpoint") == expected, output
    assert collector.counts_by_label("http_request_duration_seconds", "endpoint") == expected
    assert collector.sums_by_label("http_requests_total", "status") == {
        "200": OK_REQUESTS,
        "500": FAILING_REQUESTS,
        "404": UNMATCHED_REQUESTS,
    }
    assert collector.sums_by_label("http_requests_total", "method") == {
        "GET": OK_REQUESTS + UNMATCHED_REQUESTS,
        "POST": FAILING_REQUESTS,
    }

    releases = collector.get("/api/metrics/releases")["releases"]
    assert [(release["release"], release["project"]) for release in releases] == [("1.4.2", "shop")]

    (group,) = tracker.details()
    assert group["count"] == FAILING_REQUESTS
    assert (group["exception_type"], group["project"]) == ("ValueError", "shop")
    assert (group["environment"], group["release"]) == ("tests", "1.4.2")
    occurrence = group["occurrences"][0]
    assert re.fullmatch(rf"{url}/api/broken/\d+\?token=\[removed\]&page=2", occurrence["request_url"])
    assert occurrence["request_method"] == "POST"
    headers = {name.lower(): value for name, value in occurrence["request_headers"].items()}
    assert headers["x-request-id"] == "r-1"
    assert "authorization" not in headers
    assert "s3cret" not in str(group)


def test_fastapi_streams_background_tasks_mounts_and_unknown_methods(tracker: Tracker, collector: Collector) -> None:
    with running_application([*UVICORN, "fastapi_app:app"], "running on", tracker, collector) as process:
        with http_client(base_url(process)) as client:
            assert client.get("/teapot").status_code == 418
            assert client.get("/stream").text == "0\n1\n2\n"
            assert client.get("/background").text == "accepted"
            assert client.get("/task").status_code == 200
            assert client.get("/sync-broken/7").json() == {"detail": "Internal server error"}
            for shop in ("east", "west"):
                assert client.get(f"/shops/{shop}/carts/{shop}-1").json() == {"cart": f"{shop}-1"}
            assert client.get("/shops/north/nowhere").status_code == 404
            assert client.request("BREW", "/api/items/1").status_code == 405
        process.stop()
    assert collector.sums_by_label("http_requests_total", "endpoint") == {
        "/teapot": 1,
        "/stream": 1,
        "/background": 1,
        "/task": 1,
        "/sync-broken/{item}": 1,
        "/shops/{shop}/carts/{cart}": 2,
        "/shops/{shop}/{path}": 1,
        "/api/items/{item}": 1,
    }
    assert collector.sums_by_label("http_requests_total", "status") == {
        "200": 5,
        "418": 1,
        "500": 1,
        "404": 1,
        "405": 1,
    }
    assert collector.sums_by_label("http_requests_total", "method") == {"GET": 8, "OTHER": 1}
    (stream,) = collector.buckets("http_request_duration_seconds", labels="endpoint:/stream")
    assert stream["min"] >= 0.1, "the duration of a streaming response ends with its last byte"
    (background,) = collector.buckets("http_request_duration_seconds", labels="endpoint:/background")
    assert background["max"] < 0.3, "the duration excludes background tasks"
    assert {group["exception_type"] for group in tracker.groups()} == {"KeyError", "RuntimeError", "ArithmeticError"}
    assert tracker.count() == 3


def test_failed_start_of_a_fastapi_application_is_reported(tracker: Tracker) -> None:
    script = """
import contextlib, uvicorn
from fastapi import FastAPI
from monlight.integrations.fastapi import setup_monlight

@contextlib.asynccontextmanager
async def lifespan(app):
    raise ValueError("no database")
    yield

app = FastAPI(lifespan=lifespan)
setup_monlight(app, error_tracker_url=errors_url, api_key=key)
uvicorn.run(app, port=0)
"""
    result = run_script(script, tracker)
    assert "Application startup failed" in result.stderr
    assert (tracker.only_report()["message"], tracker.count()) == ("no database", 1)


def test_exception_in_flask_stream_is_reported(tracker: Tracker, collector: Collector) -> None:
    with running_application([*GUNICORN, "flask_app:app"], "Listening at", tracker, collector) as process:
        with http_client(base_url(process)) as client:
            assert client.get("/teapot").status_code == 418
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/stream")
        process.stop()
    (group,) = tracker.details()
    assert (group["exception_type"], group["count"]) == ("OSError", 1)
    assert group["occurrences"][0]["request_url"].endswith("/stream")
    assert collector.sums_by_label("http_requests_total", "endpoint") == {"/teapot": 1, "/stream": 1}


def test_exception_in_async_django_view_is_reported(tracker: Tracker, collector: Collector) -> None:
    with running_application([*UVICORN, "django_app:asgi"], "running on", tracker, collector) as process:
        assert httpx.get(f"{base_url(process)}/api/async-broken/7", timeout=TIMEOUT_S).status_code == 500
        process.stop()
    assert tracker.only_report()["exception_type"] == "KeyError"
    assert collector.sums_by_label("http_requests_total", "endpoint") == {"/api/async-broken/<int:item>": 1}
