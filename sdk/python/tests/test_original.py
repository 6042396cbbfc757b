"""Side by side with the published 0.3.0: the same calls, the same requests, but for what the README says is added."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest

from scripted import ScriptedServer, Seen
from services import KEY, PATIENCE_S, SOURCES

Scripted = Callable[..., ScriptedServer]

pytestmark = pytest.mark.skipif(
    next(iter(metadata.distributions(name="monlight")), None) is None, reason="the published client is not installed"
)

SIGNATURES = """
import inspect, json
import monlight
from monlight import ErrorClient, MetricsClient
from monlight.integrations.fastapi import MonlightExceptionHandler, MonlightMiddleware, setup_monlight
from monlight.error_client import ErrorClient as same_errors
from monlight.metrics_client import MetricsClient as same_metrics
assert same_errors is ErrorClient and same_metrics is MetricsClient and monlight.__version__

def parameters(function):
    found = inspect.signature(function).parameters.values()
    return [[one.name, one.kind.name, repr(one.default)] for one in found]

functions = [ErrorClient.__init__, ErrorClient.report_error, ErrorClient.report_error_sync]
functions += [getattr(MetricsClient, name) for name in ("__init__", "start", "counter", "histogram", "gauge", "flush")]
functions += [MetricsClient.shutdown, MonlightMiddleware.__init__, MonlightExceptionHandler, setup_monlight]
print(json.dumps({f"{function.__module__}.{function.__qualname__}": parameters(function) for function in functions}))
"""

ERRORS = """
import asyncio, sys
from monlight import ErrorClient

class Outer:
    class Inner(Exception):
        pass

def fail(error):
    try:
        raise error
    except BaseException as caught:
        return caught

def send(client, error, *context):
    client.report_error_sync(error, *context)
    if hasattr(client, "flush"):
        assert client.flush()

client = ErrorClient(base_url=url + "/", api_key=key, project="shop", timeout=3.0, excluded_headers={"X-Tenant"})
assert (client.base_url, client.api_key, client.project, client.timeout) == (url, key, "shop", 3.0)
send(client, fail(ValueError("boom")))
send(client, fail(Outer.Inner("nested")), None)
send(client, fail(KeyError("ü")), {})
send(client, fail(ValueError("")), {
    "request_url": "http://shop.example/cart?page=2", "request_method": "GET", "user_id": 7,
    "request_headers": {"Accept": "*/*", "cookie": "s", "X-TENANT": "t", "Authorization": "a", "x-api-key": "k"},
    "extra": {"cart": [1, 2.5, None, True, {"deep": "text"}]}, "unknown": 1,
})
try:
    try:
        1 / 0
    except ZeroDivisionError as cause:
        raise RuntimeError("outer") from cause
except RuntimeError as error:
    send(client, error)
default = ErrorClient(url, key)
async def report():
    assert await default.report_error(fail(OSError("async")), request_context={"user_id": "u"}) is None
    if hasattr(default, "flush"):
        assert default.flush()
asyncio.run(report())
"""

METRICS = """
from monlight import MetricsClient
named = MetricsClient(base_url=url, api_key=key, flush_interval=60, project="shop")
for client in (MetricsClient(url + "/", key), named):
    client.start()
    for number in range(3):
        client.counter("orders_total")
        client.counter("orders_total", {"shop": "east"}, 2.5)
        client.counter("orders_total", labels={}, value=2)
        client.histogram("order_ms", number, labels={"shop": "east", "cart": "ü"})
        client.histogram("order_ms", value=0.25)
    client.gauge("depth", 15, {"shop": "east"})
    client.flush()
    client.flush()
    client.gauge("depth", value=-1.5)
    client.shutdown()
"""

FASTAPI = """
import asyncio, logging
import httpx
from fastapi import FastAPI, HTTPException
from monlight.integrations.fastapi import setup_monlight
logging.disable()
app = FastAPI()
clients = setup_monlight(app, error_tracker_url=url, metrics_collector_url=url, api_key=key, project="shop")
assert sorted(clients) == ["error_client", "metrics_client"]
assert app.state.monlight_error_client is clients["error_client"]

@app.get("/items/{item}")
async def item(item: int): return item

@app.post("/broken/{item}")
async def broken(item: int): raise ValueError(f"item {item} is broken")

@app.get("/teapot")
async def teapot(): raise HTTPException(418)

async def visit():
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        for path in ("/items/1", "/items/2", "/items/no-number", "/teapot"):
            await client.get(path)
        answer = await client.post("/broken/7?page=2", headers={"X-Request-ID": "r-1", "Cookie": "s"})
        assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)

asyncio.run(visit())
clients["metrics_client"].shutdown()
nothing = setup_monlight(FastAPI(), api_key=key)
assert nothing == {"error_client": None, "metrics_client": None}
"""


def run(script: str, url: str, *, original: bool) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not original:
        environment["PYTHONPATH"] = str(SOURCES)
    head = f"url, key = {url!r}, {KEY!r}\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def both(script: str, scripted: Scripted) -> tuple[list[Seen], list[Seen]]:
    """What the original sends, and what this package sends."""
    theirs, ours = scripted(), scripted()
    run(script, theirs.url, original=True)
    run(script, ours.url, original=False)
    return theirs.seen, ours.seen


def check_heads(theirs: list[Seen], ours: list[Seen]) -> None:
    for names in ({"x-api-key"}, {"content-type"}):
        values = [{seen.headers[name] for seen in requests for name in names} for requests in (theirs, ours)]
        assert values[0] == values[1]
    assert all("idempotency-key" in seen.headers for seen in ours)


def test_every_signature_is_kept() -> None:
    theirs, ours = [json.loads(run(SIGNATURES, "", original=original)) for original in (True, False)]
    assert len(theirs) == 13
    for (name, parameters), mine in zip(theirs.items(), ours.values(), strict=True):
        positional = [one for one in parameters if one[1] != "KEYWORD_ONLY"]
        for theirs_one, ours_one in zip(positional, mine, strict=False):
            # A default where there was none takes nothing away.
            assert theirs_one[:2] == ours_one[:2], name
            assert theirs_one[2] in (ours_one[2], "<class 'inspect._empty'>"), name
        assert all(one in mine for one in parameters if one[1] == "KEYWORD_ONLY"), name


def test_reports_are_the_same(scripted: Scripted) -> None:
    theirs, ours = both(ERRORS, scripted)
    assert [seen.path for seen in theirs] == [seen.path for seen in ours] == ["/api/errors"] * 6
    check_heads(theirs, ours)
    for before, after in zip(theirs, ours, strict=True):
        added = {name: value for name, value in after.json.items() if name not in before.json}
        assert set(added) == {"timestamp"}
        assert {name: value for name, value in after.json.items() if name != "timestamp"} == before.json


def summed(requests: list[Seen]) -> dict[str, Any]:
    """What the points come to: counters as sums, gauges as the last value, histograms as sorted values."""
    found: dict[str, Any] = {}
    for point in (point for seen in requests for point in seen.json):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", point.pop("timestamp"))
        value = point.pop("value")
        series = json.dumps(point, sort_keys=True)
        if point["type"] == "counter":
            found[series] = found.get(series, 0) + value
        elif point["type"] == "gauge":
            found[series] = value
        else:
            found[series] = sorted([*found.get(series, []), value])
    return found


def test_metrics_come_to_the_same(scripted: Scripted) -> None:
    theirs, ours = both(METRICS, scripted)
    assert [seen.path for seen in theirs] == [seen.path for seen in ours] == ["/api/metrics"] * 4
    check_heads(theirs, ours)
    assert summed(theirs) == summed(ours)
    assert len(theirs[0].json) == 16
    assert len(ours[0].json) == 9, "counters are summed"


def test_a_fastapi_application_is_watched_the_same(scripted: Scripted) -> None:
    theirs, ours = both(FASTAPI, scripted)
    (before,) = [seen.json for seen in theirs if seen.path == "/api/errors"]
    (after,) = [seen.json for seen in ours if seen.path == "/api/errors"]
    assert set(after) - set(before) == {"timestamp"}
    for name in ("project", "exception_type", "message", "request_url", "request_method", "request_headers"):
        assert after[name] == before[name], name
    last = [re.findall(r'File "[^"]*", line \d+', report["traceback"])[-1] for report in (before, after)]
    assert last[0] == last[1], "the fingerprint stays"

    def requests(seen: list[Seen]) -> dict[str, Any]:
        totals = summed([one for one in seen if one.path == "/api/metrics"])
        return {series: value if isinstance(value, float | int) else len(value) for series, value in totals.items()}

    assert requests(ours) == requests(theirs)
    assert len(requests(ours)) == 8
