"""Real servers and workers with `include_locals`: none of the secrets planted in them appears in any byte sent."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote_plus

import pytest

import planted
from scripted_server import RecordedRequest, ScriptedServer
from services import base_url, http_client, running_application

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
