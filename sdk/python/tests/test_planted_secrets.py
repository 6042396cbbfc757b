"""Real servers and workers with `include_locals`: none of the secrets planted in them appears in any byte sent."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

import planted
from scripted_server import RecordedRequest, ScriptedServer
from services import base_url, http_client, run_script, running_application, wait_until

GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "--graceful-timeout", "5"]
WSGI_PATHS = ["", "/django"]
WEB_STACKS = {
    "gunicorn sync": ([*GUNICORN, "planted_wsgi:application"], WSGI_PATHS),
    "gunicorn threads": ([*GUNICORN, "--threads", "2", "planted_wsgi:application"], WSGI_PATHS),
    "gunicorn gevent": ([*GUNICORN, "-k", "gevent", "planted_wsgi:application"], WSGI_PATHS),
    "gunicorn uvicorn": ([*GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "planted_asgi:app"], ["", "/sync"]),
}


def decodings(text: str) -> Iterator[str]:
    """Yields a text and everything that is encoded in it as percent-encoding, JSON or base64."""
    yield text
    for decoded in {unquote_plus(text), text.replace("\\", "")} - {text}:
        yield from decodings(decoded)
    for token in set(re.findall(r"[A-Za-z0-9+/_-]{8,}", text)):
        # The decoder ignores what does not fit.
        yield base64.b64decode(token[: len(token) // 4 * 4], altchars="-_").decode("latin-1")


def assert_no_secret_is_sent(requests: list[RecordedRequest]) -> None:
    assert len(planted.SECRETS) >= 40
    secrets = [
        *planted.SECRETS.items(),
        *(("address", address) for address in planted.ADDRESSES),
        ("PIN", str(planted.PIN)),
    ]
    for request in requests:
        headers = {name: value for name, value in request.headers.items() if name != "x-api-key"}
        body = gzip.decompress(request.body) if request.body.startswith(b"\x1f\x8b") else request.body
        for text in decodings(f"{request.path} {headers} {body.decode()}"):
            assert [name for name, secret in secrets if secret in text] == [], text


def reports(server: ScriptedServer) -> dict[str, int]:
    """Returns the number of reports of each exception type."""
    types = [request.json["exception_type"] for request in server.requests if request.path == "/api/errors"]
    return {name: types.count(name) for name in types}


@pytest.mark.parametrize(("command", "prefixes"), WEB_STACKS.values(), ids=WEB_STACKS.keys())
def test_web_frameworks_send_no_secrets(
    command: list[str], prefixes: list[str], start_server: Callable[..., ScriptedServer]
) -> None:
    server = start_server()
    urls = {"MONLIGHT_TRACKER": server.url, "MONLIGHT_COLLECTOR": server.url}
    with running_application(command, "Listening at", **urls, **planted.ENVIRONMENT) as process:
        with http_client(base_url(process)) as client:
            for prefix in prefixes:
                path = f"{prefix}{planted.PATH}?{planted.QUERY}"
                assert client.post(path, headers=planted.HEADERS, json=planted.BODY).status_code == 500
        output = process.stop()
    # The log record of each request, and its exception.
    assert reports(server) == {"planted": 2, "ValueError": 2}, output
    sent = [request.json for request in server.requests if request.path == "/api/errors"]
    assert all("page=2" in report["request_url"] for report in sent)
    assert all("x-request-id" in str(report["request_headers"]).lower() for report in sent)
    innermost = [next(iter(report["extra"]["locals"].items())) for report in sent if "locals" in report["extra"]]
    assert all(frame.endswith("in charge") and variables["arguments"] for frame, variables in innermost)
    assert_no_secret_is_sent(server.requests)


def test_celery_worker_reports_each_failure_once_without_secrets(
    start_server: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    server = start_server()
    environment = {"MONLIGHT_TRACKER": server.url, "BROKER": str(tmp_path), **planted.ENVIRONMENT}
    enqueue = f"""
import planted_celery, planted
planted_celery.charge.delay(planted.HEADERS, {json.dumps(planted.BODY)!r}, token=planted.secret("argument of a task"))
planted_celery.retry.delay()
planted_celery.hang.delay()
"""
    result = run_script(enqueue, **environment)
    assert result.returncode == 0, result.stderr
    command = ["celery", "-A", "planted_celery", "worker", "--concurrency", "2", "--loglevel", "CRITICAL"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    expected = {"planted": 1, "ValueError": 1, "KeyError": 1, "TimeLimitExceeded": 1}
    with running_application(command, "tasks", **environment) as process:
        wait_until(lambda: sum(reports(server).values()) >= sum(expected.values()), "all reports")
        output = process.stop()
    assert reports(server) == expected, output
    tasks = {request.json["exception_type"]: request.json["extra"] for request in server.requests}
    assert tasks["KeyError"]["task"] == "planted_celery.retry"
    assert re.fullmatch(r"[0-9a-f-]{36}", tasks["TimeLimitExceeded"]["task_id"])
    assert_no_secret_is_sent(server.requests)


def test_requests_that_gunicorn_aborts_are_reported(start_server: Callable[..., ScriptedServer]) -> None:
    server = start_server()
    urls = {"MONLIGHT_TRACKER": server.url, "MONLIGHT_COLLECTOR": server.url, **planted.ENVIRONMENT}
    command = [*GUNICORN, "--timeout", "1", "--workers", "2", "planted_wsgi:application"]
    with (
        running_application(command, "Listening at", **urls) as process,
        http_client(base_url(process)) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        for prefix in WSGI_PATHS:
            pool.submit(client.get, f"{prefix}/hang")
        wait_until(lambda: reports(server).get("SystemExit") == 2, "the reports of both requests")
    sent = [request.json for request in server.requests if request.path == "/api/errors"]
    assert sorted(re.findall(r"in (\w*hang)\n", "".join(report["traceback"] for report in sent))) == [
        "django_hang",
        "hang",
    ]
    assert {report["request_url"].rpartition("/")[2] for report in sent} == {"hang"}
