"""Benchmark of metrics: Monlight's metrics collector, VictoriaMetrics and Prometheus, with the same points."""

from __future__ import annotations

import datetime
import json
import struct
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from measure import (
    ROOT,
    Server,
    debian,
    disk_bytes,
    empty_folder,
    free_port,
    get_json,
    latency_ms,
    monlight,
    request,
    send_all,
    serving,
    wait_until,
)

SERIES = 1_000
POINTS_PER_SERIES = 600
STEP_S = 5
POINTS = SERIES * POINTS_PER_SERIES
BATCH = 1_000
NAME = "queue_depth"
COLUMNS = [
    "start ms",
    "MB idle",
    "MB after",
    "points/s",
    "CPU s per 10,000",
    "bytes on disk per point",
    "all series, 1h by minute ms",
    "one series ms",
    "names ms",
    "installed MB",
]

Row = list[Any]
Request = tuple[str, bytes, dict[str, str]]


def labels(series: int) -> dict[str, str]:
    return {"queue": f"orders-{series}", "region": ("eu", "us")[series % 2], "shard": str(series % 10)}


def value(series: int, at: int) -> float:
    """Returns a gauge value that varies over time."""
    return float((series * 7_919 + at * (series % 13 + 1) * 31) % 1_000)


def points() -> Iterator[tuple[int, list[tuple[int, float]]]]:
    """Yields the timestamps in ms in ascending order, each with the value of every series."""
    first = int(time.time()) - POINTS_PER_SERIES * STEP_S
    for at in range(POINTS_PER_SERIES):
        yield (first + at * STEP_S) * 1_000, [(series, value(series, at)) for series in range(SERIES)]


def monlight_requests() -> list[Request]:
    label_sets = [json.dumps(labels(series)) for series in range(SERIES)]
    requests = []
    for ms, values in points():
        at = datetime.datetime.fromtimestamp(ms / 1e3, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            f'{{"name":"{NAME}","type":"gauge","value":{number},"timestamp":"{at}","labels":{label_sets[series]}}}'
            for series, number in values
        ]
        requests.append(("/api/metrics", f"[{','.join(items)}]".encode(), {"X-API-Key": "k"}))
    return requests


# Prometheus remote write: a protocol buffers message, compressed with Snappy. https://prometheus.io/docs/specs/prw


def varint(number: int) -> bytes:
    output = bytearray()
    while number > 0x7F:
        output.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*output, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def snappy(content: bytes) -> bytes:
    """Encodes in the Snappy format with literals only, which is valid and needs no library."""
    chunks = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
    literals = (b"\xf4" + struct.pack("<H", len(chunk) - 1) + chunk for chunk in chunks)
    return varint(len(content)) + b"".join(literals)


def remote_write_requests(path: str) -> list[Request]:
    label_fields = []
    for series in range(SERIES):
        pairs = sorted({"__name__": NAME, **labels(series)}.items())
        label_fields.append(
            b"".join(field(1, field(1, name.encode()) + field(2, text.encode())) for name, text in pairs)
        )
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    requests = []
    for ms, values in points():
        message = bytearray()
        for series, number in values:
            sample = b"\x09" + struct.pack("<d", number) + b"\x10" + varint(ms)
            message += field(1, label_fields[series] + field(2, sample))
        requests.append((path, snappy(bytes(message)), headers))
    return requests


def ingest(server: Server, requests: list[Request]) -> tuple[float, float, float, float]:
    """Returns MB idle, points/s, CPU seconds per 10,000 points, and MB when the server is idle again."""
    server.wait_until_idle()
    idle, cpu = server.mb(), server.cpu_s()
    # One connection, because Prometheus rejects out-of-order samples.
    seconds = send_all(server.port, requests, 1)
    server.wait_until_idle()
    return idle, POINTS / seconds, (server.cpu_s() - cpu) / POINTS * 10_000, server.mb()


def measure_metrics_collector() -> Row:
    folder = empty_folder("collector")
    with monlight("metrics-collector", folder, {"HOST_METRICS": "0", "AGGREGATION_INTERVAL": "1"}) as server:
        idle, rate, cpu, after = ingest(server, monlight_requests())
        key = {"X-API-Key": "k"}
        metrics = f"/api/metrics?name={NAME}&period=1h"
        stored = sum(bucket["count"] for bucket in get_json(server.port, metrics, key)["data"])
        if stored != POINTS:
            raise RuntimeError(f"the metrics collector stored {stored} of {POINTS} points")
        one_series = f"{metrics}&labels=queue:orders-7"
        queries = [latency_ms(server.port, path, key) for path in (metrics, one_series, "/api/metrics/names")]
        after = server.mb()
        start = server.start_ms
    size = disk_bytes(folder / "data") / POINTS
    return [start, idle, after, rate, cpu, size, *queries, (ROOT / "metrics-collector").stat().st_size / 1e6]


def promql_paths() -> tuple[str, str, str]:
    """Returns the same queries in PromQL: all series by minute, one series by minute, and the metric names."""

    def query_range(selector: str) -> str:
        now = int(time.time())
        query = urllib.parse.quote(f"avg(avg_over_time({selector}[1m]))")
        return f"/api/v1/query_range?query={query}&start={now - 3_600}&end={now}&step=60"

    return query_range(NAME), query_range(f'{NAME}{{queue="orders-7"}}'), "/api/v1/label/__name__/values"


def count_points(server: Server) -> int:
    query = urllib.parse.quote(f"sum(count_over_time({NAME}[2h]))")
    result = get_json(server.port, f"/api/v1/query?query={query}")["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


def measure_victoria_metrics() -> Row:
    (program, env), folder, port = debian("victoria-metrics"), empty_folder("victoria-metrics"), free_port()
    arguments = [f"-storageDataPath={folder / 'data'}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=30d"]
    # With the cache, only the first query of each kind would be measured.
    arguments.append("-search.disableCache")
    with serving([[str(program), *arguments]], folder, env, port, "/health") as server:
        idle, rate, cpu, after = ingest(server, remote_write_requests("/api/v1/write"))
        request(port, "GET", "/internal/force_flush")
        wait_until(lambda: count_points(server) >= POINTS, "VictoriaMetrics has stored all points")
        queries = [latency_ms(port, path) for path in promql_paths()]
        after, start = server.mb(), server.start_ms
    return [start, idle, after, rate, cpu, disk_bytes(folder / "data") / POINTS, *queries, disk_bytes(program) / 1e6]


def measure_prometheus() -> Row:
    (program, env), folder, port = debian("prometheus"), empty_folder("prometheus"), free_port()
    (folder / "prometheus.yml").write_text("global: {}\n")
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
    ]
    with serving([[str(program), *arguments]], folder, env, port, "/-/ready") as server:
        idle, rate, cpu, after = ingest(server, remote_write_requests("/api/v1/write"))
        if count_points(server) != POINTS:
            raise RuntimeError(f"Prometheus stored {count_points(server)} of {POINTS} points")
        queries = [latency_ms(port, path) for path in promql_paths()]
        after, start = server.mb(), server.start_ms
        # A snapshot consists of blocks, into which Prometheus converts its write-ahead log after two hours.
        request(port, "POST", "/api/v1/admin/tsdb/snapshot")
    size = disk_bytes(folder / "data" / "snapshots") / POINTS
    return [start, idle, after, rate, cpu, size, *queries, disk_bytes(program) / 1e6]
