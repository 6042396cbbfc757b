"""The same points into our collector, VictoriaMetrics and Prometheus, and the same questions about them."""

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
    folder,
    free_port,
    get_json,
    latency_ms,
    ours,
    request,
    send_all,
    serving,
    wait_until,
)

SERIES = 1_000
TIMES = 600
STEP_S = 5
POINTS = SERIES * TIMES
BATCH = 1_000
NAME = "queue_depth"
COLUMNS = [
    "start ms",
    "MB idle",
    "MB after",
    "points/s",
    "CPU s per 10,000",
    "bytes on disk each",
    "all, 1h by the minute ms",
    "one series ms",
    "names ms",
    "installed MB",
]

Row = list[Any]
Request = tuple[str, bytes, dict[str, str]]


def labels(series: int) -> dict[str, str]:
    return {"queue": f"orders-{series}", "region": ("eu", "us")[series % 2], "shard": str(series % 10)}


def value(series: int, at: int) -> float:
    """A gauge that wanders."""
    return float((series * 7_919 + at * (series % 13 + 1) * 31) % 1_000)


def points() -> Iterator[tuple[int, list[tuple[int, float]]]]:
    """Of each moment in turn, as they arise: the moment in ms, and each series with its value."""
    first = int(time.time()) - TIMES * STEP_S
    for at in range(TIMES):
        yield (first + at * STEP_S) * 1_000, [(series, value(series, at)) for series in range(SERIES)]


def ours_of() -> list[Request]:
    names = [json.dumps(labels(series)) for series in range(SERIES)]
    requests = []
    for ms, values in points():
        at = datetime.datetime.fromtimestamp(ms / 1e3, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            f'{{"name":"{NAME}","type":"gauge","value":{number},"timestamp":"{at}","labels":{names[series]}}}'
            for series, number in values
        ]
        requests.append(("/api/metrics", f"[{','.join(items)}]".encode(), {"X-API-Key": "k"}))
    return requests


# Prometheus' remote write: a message of protocol buffers, packed by Snappy. https://prometheus.io/docs/specs/prw


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def snappy(content: bytes) -> bytes:
    """Snappy's format with nothing but literals, which is allowed and spares a library."""
    pieces = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
    literals = (b"\xf4" + struct.pack("<H", len(piece) - 1) + piece for piece in pieces)
    return varint(len(content)) + b"".join(literals)


def written_of(path: str) -> list[Request]:
    heads = []
    for series in range(SERIES):
        named = sorted({"__name__": NAME, **labels(series)}.items())
        heads.append(b"".join(field(1, field(1, name.encode()) + field(2, text.encode())) for name, text in named))
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
            message += field(1, heads[series] + field(2, sample))
        requests.append((path, snappy(bytes(message)), headers))
    return requests


def ingest(server: Server, requests: list[Request]) -> tuple[float, float, float, float]:
    """MB idle, points a second, CPU seconds per 10,000, and MB once it has nothing left to do."""
    server.settled()
    idle, cpu = server.mb(), server.cpu_s()
    # One connection: Prometheus refuses what comes out of order.
    seconds = send_all(server.port, requests, 1)
    server.settled()
    return idle, POINTS / seconds, (server.cpu_s() - cpu) / POINTS * 10_000, server.mb()


def collector() -> Row:
    place = folder("collector")
    with ours("metrics-collector", place, {"HOST_METRICS": "0", "AGGREGATION_INTERVAL": "1"}) as server:
        idle, rate, cpu, after = ingest(server, ours_of())
        key = {"X-API-Key": "k"}
        metrics = f"/api/metrics?name={NAME}&period=1h"
        counted = sum(bucket["count"] for bucket in get_json(server.port, metrics, key)["data"])
        if counted != POINTS:
            raise RuntimeError(f"the collector has {counted} of {POINTS} points")
        one = f"{metrics}&labels=queue:orders-7"
        asked = [latency_ms(server.port, path, key) for path in (metrics, one, "/api/metrics/names")]
        after = server.mb()
        start = server.start_ms
    size = disk_bytes(place / "data") / POINTS
    return [start, idle, after, rate, cpu, size, *asked, (ROOT / "metrics-collector").stat().st_size / 1e6]


def questions(prefix: str) -> tuple[str, str, str]:
    """The same in PromQL: all series by the minute, one of them, and which names there are."""

    def over(selector: str) -> str:
        now = int(time.time())
        query = urllib.parse.quote(f"avg(avg_over_time({selector}[1m]))")
        return f"{prefix}/api/v1/query_range?query={query}&start={now - 3_600}&end={now}&step=60"

    return over(NAME), over(f'{NAME}{{queue="orders-7"}}'), f"{prefix}/api/v1/label/__name__/values"


def counted(server: Server) -> int:
    query = urllib.parse.quote(f"sum(count_over_time({NAME}[2h]))")
    result = get_json(server.port, f"/api/v1/query?query={query}")["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


def victoria_metrics() -> Row:
    (program, env), place, port = debian("victoria-metrics"), folder("victoria-metrics"), free_port()
    arguments = [f"-storageDataPath={place / 'data'}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=30d"]
    # A cache of answers would answer all questions but the first.
    arguments.append("-search.disableCache")
    with serving([[str(program), *arguments]], place, env, port, "/health") as server:
        idle, rate, cpu, after = ingest(server, written_of("/api/v1/write"))
        request(port, "GET", "/internal/force_flush")
        wait_until(lambda: counted(server) >= POINTS, "VictoriaMetrics has all points")
        asked = [latency_ms(port, path) for path in questions("")]
        after, start = server.mb(), server.start_ms
    return [start, idle, after, rate, cpu, disk_bytes(place / "data") / POINTS, *asked, disk_bytes(program) / 1e6]


def prometheus() -> Row:
    (program, env), place, port = debian("prometheus"), folder("prometheus"), free_port()
    (place / "prometheus.yml").write_text("global: {}\n")
    arguments = [
        f"--config.file={place / 'prometheus.yml'}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
    ]
    with serving([[str(program), *arguments]], place, env, port, "/-/ready") as server:
        idle, rate, cpu, after = ingest(server, written_of("/api/v1/write"))
        if counted(server) != POINTS:
            raise RuntimeError(f"Prometheus has {counted(server)} of {POINTS} points")
        asked = [latency_ms(port, path) for path in questions("")]
        after, start = server.mb(), server.start_ms
        # A snapshot is made of blocks, which is what the log of writes becomes after two hours.
        request(port, "POST", "/api/v1/admin/tsdb/snapshot")
    size = disk_bytes(place / "data" / "snapshots") / POINTS
    return [start, idle, after, rate, cpu, size, *asked, disk_bytes(program) / 1e6]
