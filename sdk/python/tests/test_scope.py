"""User and tags: which reports get them, and which do not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import monlight
from monlight import ErrorClient, _scope
from monlight.integrations import asgi, wsgi
from scripted_server import ScriptedServer
from services import KEY, Tracker, run_script

# Longer than the tests wait for each other.
TIMEOUT_S = 20


@pytest.fixture(autouse=True)
def empty_scope() -> Iterator[None]:
    """Runs a test without the values of others."""
    with _scope.activated(_scope.Scope(None, {}, is_shared=False)):
        yield
    _scope._process.user_id = None
    _scope._process.tags.clear()


@pytest.fixture
def server(start_server: Callable[..., ScriptedServer]) -> ScriptedServer:
    return start_server()


@pytest.fixture
def errors(server: ScriptedServer) -> ErrorClient:
    return ErrorClient(server.url, KEY)


def reported(errors: ErrorClient, server: ScriptedServer) -> dict[str, tuple[str | None, dict[str, str]]]:
    """Returns the user and the tags of all reports by message."""
    assert errors.flush()
    reports = [request.json for request in server.requests]
    return {report["message"]: (report.get("user_id"), report.get("extra", {}).get("tags", {})) for report in reports}


def set_and_report(errors: ErrorClient, name: str) -> None:
    monlight.set_user(name)
    monlight.set_tag("name", name)
    errors.capture_message(name)


def test_values_are_in_all_later_reports_until_they_are_removed(errors: ErrorClient, server: ScriptedServer) -> None:
    set_and_report(errors, "first")
    monlight.set_tag("plan", True)
    monlight.set_tag("name", None)
    monlight.set_tag("unknown", None)
    errors.capture_message("second")
    monlight.set_user(None)
    errors.capture_message("third")
    assert reported(errors, server) == {
        "first": ("first", {"name": "first"}),
        "second": ("first", {"plan": "True"}),
        "third": (None, {"plan": "True"}),
    }


def test_users_and_tags_of_other_types_are_repaired(errors: ErrorClient, server: ScriptedServer) -> None:
    monlight.set_tag("list", [1])
    monlight.set_tag(7, "x" * 300)  # type: ignore[arg-type]
    monlight.set_tag("api_key", "s3cret-key")
    monlight.set_user(object())
    errors.capture_message("s3cret-key")
    tags = {"list": "<builtins.list>", "7": "x" * 199 + "…", "api_key": "[removed]"}
    assert reported(errors, server) == {"[removed]": (None, tags)}


def test_number_of_tags_is_bounded(errors: ErrorClient, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(200):
        monlight.set_tag(f"tag {number}", number)
    monlight.set_tag("tag 7", "changed")
    tags = _scope.current_scope().tags
    assert len(tags) == _scope.TAGS_MAX
    assert tags["tag 7"] == "changed"
    assert "failed to set a tag" in caplog.text


def test_threads_do_not_see_each_other(errors: ErrorClient, server: ScriptedServer) -> None:
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        monlight.set_user(name)
        monlight.set_tag("name", name)
        barrier.wait(TIMEOUT_S)
        errors.capture_message(name)
        barrier.wait(TIMEOUT_S)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
        # The thread of the pool keeps its values.
        pool.submit(errors.capture_message, "later").result(TIMEOUT_S)
    errors.capture_message("main")
    reports = reported(errors, server)
    assert reports.pop("main") == (None, {})
    assert reports.pop("later")[0] in list("abcd")
    assert reports == {name: (name, {"name": name}) for name in "abcd"}


def test_tasks_of_asyncio_do_not_see_each_other(errors: ErrorClient, server: ScriptedServer) -> None:
    async def work(name: str, barrier: asyncio.Event) -> None:
        monlight.set_user(name)
        monlight.set_tag("name", name)
        await barrier.wait()
        errors.capture_message(name)
        await asyncio.to_thread(errors.capture_message, f"{name} in a thread")

    async def main() -> None:
        monlight.set_tag("common", 1)
        barrier = asyncio.Event()
        tasks = [asyncio.create_task(work(name, barrier)) for name in "abc"]
        await asyncio.sleep(0)
        barrier.set()
        await asyncio.gather(*tasks)
        errors.capture_message("main")

    asyncio.run(main())
    errors.capture_message("after")
    reports = reported(errors, server)
    assert reports.pop("main") == (None, {"common": "1"})
    assert reports.pop("after") == (None, {})
    assert reports == {
        f"{name}{place}": (name, {"name": name, "common": "1"}) for name in "abc" for place in ("", " in a thread")
    }


def test_values_of_the_main_thread_are_those_of_the_process(tracker: Tracker) -> None:
    script = """
import asyncio, threading, monlight
monlight.init(error_tracker_url=errors_url, api_key=key)
def report(message, user=None):
    if user: monlight.set_user(user)
    monlight.capture_message(message)
def in_thread(*args):
    thread = threading.Thread(target=report, args=args); thread.start(); thread.join()
monlight.set_tag("region", "eu")
in_thread("thread")
in_thread("thread with a user", "u-1")
in_thread("later thread")
async def main():
    report("task", "u-2")
asyncio.run(main())
report("main")
if os.fork() == 0:
    report("forked")
    raise SystemExit
os.wait()
"""
    result = run_script(script, tracker)
    assert result.returncode == 0, result.stderr
    # One line reports all messages, and the group keeps five of them.
    groups = tracker.groups()
    assert [group["count"] for group in groups] == [6]
    occurrences = tracker.only_report()["occurrences"]
    assert [occurrence["extra"] for occurrence in occurrences] == [{"tags": {"region": "eu"}}] * 5
    users = sorted(str(occurrence["user_id"]) for occurrence in occurrences)
    assert users == ["None", "None", "None", "u-1", "u-2"]


def wsgi_application(errors: ErrorClient) -> wsgi.MonlightMiddleware:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = environ["PATH_INFO"].strip("/")
        errors.capture_message(f"start of {name}")
        set_and_report(errors, name)
        start_response("200 OK", [])

        def stream() -> Iterator[bytes]:
            yield b"1"
            raise ValueError(f"stream of {name}")

        return stream()

    return wsgi.MonlightMiddleware(application, None, errors)


def test_values_of_a_wsgi_request_end_with_it(errors: ErrorClient, server: ScriptedServer) -> None:
    application = wsgi_application(errors)
    for name in "ab":
        environ = {"PATH_INFO": f"/{name}", "HTTP_HOST": "shop.example", "wsgi.url_scheme": "http"}
        body = application(environ, lambda *_: lambda _: None)
        with pytest.raises(ValueError, match="stream"):
            list(body)
    errors.capture_message("after")
    assert reported(errors, server) == {
        "start of a": (None, {}),
        "a": ("a", {"name": "a"}),
        "stream of a": ("a", {"name": "a"}),
        "start of b": (None, {}),
        "b": ("b", {"name": "b"}),
        "stream of b": ("b", {"name": "b"}),
        "after": (None, {}),
    }


async def get(application: asgi.ASGIApp, path: str) -> None:
    """Sends a request to an ASGI application and ignores the exception that it raises."""

    async def receive() -> asgi.Message:
        return {"type": "http.request"}

    async def send(message: asgi.Message) -> None:
        pass

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        "query_string": b"",
        "server": None,
    }
    with suppress(ValueError):
        await application(scope, receive, send)


def test_everything_that_an_asgi_request_starts_shares_its_values(errors: ErrorClient, server: ScriptedServer) -> None:
    all_started = asyncio.Event()
    started: list[str] = []

    async def set_tag_in_task() -> None:
        monlight.set_tag("task", 1)

    async def pay(request: Request) -> PlainTextResponse:
        name = request.path_params["name"]
        # Like a dependency of FastAPI, which runs in a thread pool with a copy of the context.
        await run_in_threadpool(monlight.set_user, name)
        await asyncio.create_task(set_tag_in_task())
        monlight.set_tag("name", name)
        started.append(name)
        if len(started) == 3:
            all_started.set()
        await asyncio.wait_for(all_started.wait(), TIMEOUT_S)
        raise ValueError(name)

    application = asgi.MonlightMiddleware(Starlette(routes=[Route("/{name}", pay)]), None, errors)

    async def main() -> None:
        await asyncio.gather(*(get(application, f"/{name}") for name in "abc"))
        errors.capture_message("after")

    asyncio.run(main())
    reports = reported(errors, server)
    assert reports.pop("after") == (None, {})
    assert reports == {name: (name, {"name": name, "task": "1"}) for name in "abc"}


def test_values_of_a_celery_task_end_with_it(tracker: Tracker) -> None:
    script = """
import monlight
from celery import Celery
monlight.init(error_tracker_url=errors_url, api_key=key)
app = Celery(broker='memory://', set_as_current=False)

@app.task
def inner():
    monlight.set_user("inner")

@app.task
def pay(name):
    monlight.set_tag("name", name)
    inner.apply()
    raise ValueError(name)

monlight.set_user("main")
pay.apply(args=["a"])
monlight.capture_message("after")
"""
    result = run_script(script, tracker)
    assert result.returncode == 0, result.stderr
    occurrences = {group["message"]: group["occurrences"][0] for group in tracker.details()}
    assert {message: (one["user_id"], one["extra"].get("tags")) for message, one in occurrences.items()} == {
        "a": ("main", {"name": "a"}),
        "after": ("main", None),
    }


def test_context_that_was_copied_before_a_change_keeps_its_values(errors: ErrorClient, server: ScriptedServer) -> None:
    monlight.set_user("before")
    context = copy_context()
    monlight.set_user("after")
    context.run(errors.capture_message, "copy")
    errors.capture_message("original")
    assert reported(errors, server) == {"copy": ("before", {}), "original": ("after", {})}
