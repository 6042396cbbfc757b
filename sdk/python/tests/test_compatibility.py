"""Compatibility with the published client 0.3.0: the same calls send the same requests, except as the README states."""

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

from scripted_server import RecordedRequest, ScriptedServer
from services import KEY, SOURCES, TIMEOUT_S

StartServer = Callable[..., ScriptedServer]

pytestmark = pytest.mark.skipif(
    next(iter(metadata.distributions(name="monlight")), None) is None, reason="the published client is not installed"
)

SIGNATURES = """
import inspect, json
import monlight
from monlight import ErrorClient, MetricsClient
from monlight.integrations.fastapi import MonlightExceptionHandler, MonlightMiddleware, setup_monlight
from monlight import error_client, metrics_client
assert error_client.ErrorClient is ErrorClient and metrics_client.MetricsClient is MetricsClient
assert monlight.__version__

def parameters(function):
    signature = inspect.signature(function)
    return [[one.name, one.kind.name, repr(one.default)] for one in signature.parameters.values()]

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

def raise_and_catch(error):
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
send(client, raise_and_catch(ValueError("boom")))
send(client, raise_and_catch(Outer.Inner("nested")), None)
send(client, raise_and_catch(KeyError("ü")), {})
send(client, raise_and_catch(ValueError("")), {
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
    assert await default.report_error(raise_and_catch(OSError("async")), request_context={"user_id": "u"}) is None
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

async def send_requests():
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        for path in ("/items/1", "/items/2", "/items/not-a-number", "/teapot"):
            await client.get(path)
        response = await client.post("/broken/7?page=2", headers={"X-Request-ID": "r-1", "Cookie": "s"})
        assert (response.status_code, response.json()) == (500, {"detail": "Internal server error"})
    pending = asyncio.all_tasks() - {asyncio.current_task()}
    if pending:
        await asyncio.wait(pending)

asyncio.run(send_requests())
clients["metrics_client"].shutdown()
clients = setup_monlight(FastAPI(), api_key=key)
assert clients == {"error_client": None, "metrics_client": None}
"""


def run(script: str, url: str, *, original: bool) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if not original:
        environment["PYTHONPATH"] = str(SOURCES)
    preamble = f"url, key = {url!r}, {KEY!r}\n"
    result = subprocess.run(
        [sys.executable, "-c", preamble + script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_both(script: str, start_server: StartServer) -> tuple[list[RecordedRequest], list[RecordedRequest]]:
    """Returns the requests that the original client and this package send."""
    original_server, server = start_server(), start_server()
    run(script, original_server.url, original=True)
    run(script, server.url, original=False)
    return original_server.requests, server.requests


def assert_same_headers(original: list[RecordedRequest], ours: list[RecordedRequest]) -> None:
    for name in ("x-api-key", "content-type"):
        assert {request.headers[name] for request in original} == {request.headers[name] for request in ours}
    assert all("idempotency-key" in request.headers for request in ours)


def test_signatures_are_compatible() -> None:
    original, ours = [json.loads(run(SIGNATURES, "", original=is_original)) for is_original in (True, False)]
    assert len(original) == 13
    for (function, original_parameters), our_parameters in zip(original.items(), ours.values(), strict=True):
        positional = [parameter for parameter in original_parameters if parameter[1] != "KEYWORD_ONLY"]
        keyword_only = [parameter for parameter in original_parameters if parameter[1] == "KEYWORD_ONLY"]
        for (*name_and_kind, default), (*our_name_and_kind, our_default) in zip(
            positional, our_parameters, strict=False
        ):
            assert name_and_kind == our_name_and_kind, function
            # A required parameter may become optional.
            assert default in (our_default, "<class 'inspect._empty'>"), function
        assert all(parameter in our_parameters for parameter in keyword_only), function


def test_reports_are_identical_except_for_the_timestamp(start_server: StartServer) -> None:
    original, ours = run_both(ERRORS, start_server)
    assert [request.path for request in original] == [request.path for request in ours] == ["/api/errors"] * 6
    assert_same_headers(original, ours)
    for original_request, our_request in zip(original, ours, strict=True):
        report = our_request.json
        assert report.pop("timestamp")
        assert report == original_request.json


def aggregate(requests: list[RecordedRequest]) -> dict[str, Any]:
    """Aggregates points by series: counters to their sum, gauges to the last value, histograms to sorted values."""
    aggregated: dict[str, Any] = {}
    for point in (point for request in requests for point in request.json):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", point.pop("timestamp"))
        value = point.pop("value")
        series = json.dumps(point, sort_keys=True)
        if point["type"] == "counter":
            aggregated[series] = aggregated.get(series, 0) + value
        elif point["type"] == "gauge":
            aggregated[series] = value
        else:
            aggregated[series] = sorted([*aggregated.get(series, []), value])
    return aggregated


def test_metrics_have_the_same_aggregates(start_server: StartServer) -> None:
    original, ours = run_both(METRICS, start_server)
    assert [request.path for request in original] == [request.path for request in ours] == ["/api/metrics"] * 4
    assert_same_headers(original, ours)
    assert aggregate(original) == aggregate(ours)
    assert len(original[0].json) == 16
    assert len(ours[0].json) == 9, "counters are summed"


def test_fastapi_integration_sends_the_same_reports_and_metrics(start_server: StartServer) -> None:
    original, ours = run_both(FASTAPI, start_server)
    (before,) = [request.json for request in original if request.path == "/api/errors"]
    (after,) = [request.json for request in ours if request.path == "/api/errors"]
    assert set(after) - set(before) == {"timestamp"}
    for name in ("project", "exception_type", "message", "request_url", "request_method", "request_headers"):
        assert after[name] == before[name], name
    locations = [re.findall(r'File "[^"]*", line \d+', report["traceback"])[-1] for report in (before, after)]
    assert locations[0] == locations[1], "the fingerprint is unchanged"

    def request_metrics(requests: list[RecordedRequest]) -> dict[str, Any]:
        """Returns the counters, and the number of values of the histograms, whose values are durations."""
        aggregated = aggregate([request for request in requests if request.path == "/api/metrics"])
        return {series: value if isinstance(value, float | int) else len(value) for series, value in aggregated.items()}

    assert request_metrics(ours) == request_metrics(original)
    assert len(request_metrics(ours)) == 8
