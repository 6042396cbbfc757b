"""Benchmark of error reports and queries: Monlight's error tracker and Bugsink, each through its own API."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from measure import (
    PEERS,
    ROOT,
    TIMEOUT_S,
    Server,
    UnavailableError,
    disk_bytes,
    empty_folder,
    free_port,
    latency_ms,
    monlight,
    send_all,
    serving,
    wait_until,
)

REPORTS = 1_000
GROUPS = 100
FRAMES = 15
BUGSINK = PEERS / "bugsink"
COLUMNS = [
    "start ms",
    "MB idle",
    "MB after",
    "acknowledged/s",
    "stored/s",
    "CPU s per 10,000",
    "bytes on disk per report",
    "list ms",
    "detail ms",
    "search ms",
    "installed MB",
]

Row = list[Any]
Request = tuple[str, bytes, dict[str, str]]


def frames(group: int) -> list[dict[str, Any]]:
    """Returns the frames of the stack trace, outermost first."""
    outer = {"filename": "/app/shop/views.py", "function": "dispatch", "context_line": "return handler(request, *args)"}
    stack = [{**outer, "lineno": 118 + at} for at in range(FRAMES)]
    inner = {"filename": "/app/shop/cart.py", "function": f"add_{group}", "context_line": "raise ValueError(product)"}
    return [*stack, {**inner, "lineno": group + 1}]


def monlight_request(number: int) -> Request:
    group = number % GROUPS
    lines = ["Traceback (most recent call last):"]
    for frame in frames(group):
        lines.append(f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["function"]}')
        lines.append(f"    {frame['context_line']}")
    message = f"no such product sku{group}x"
    report = {
        "project": "shop",
        "exception_type": "ValueError",
        "message": message,
        "environment": "prod",
        "release": "1.4.2",
        "traceback": "\n".join([*lines, f"ValueError: {message}"]),
        "request_url": f"https://shop.example/cart/{number}",
        "request_method": "POST",
        "request_headers": {"accept": "text/html", "user-agent": "Mozilla/5.0"},
        "user_id": f"u-{number}",
        "extra": {"cart": number},
    }
    return "/api/errors", json.dumps(report).encode(), {"X-API-Key": "k"}


def envelope_request(number: int, project: int, key: str) -> Request:
    """Returns the same report as a Sentry envelope."""
    group, event_id = number % GROUPS, uuid.uuid4().hex
    event = {
        "event_id": event_id,
        "timestamp": time.time(),
        "platform": "python",
        "level": "error",
        "environment": "prod",
        "release": "1.4.2",
        "user": {"id": f"u-{number}"},
        "extra": {"cart": number},
        "request": {
            "url": f"https://shop.example/cart/{number}",
            "method": "POST",
            "headers": {"accept": "text/html", "user-agent": "Mozilla/5.0"},
        },
        "exception": {
            "values": [
                {"type": "ValueError", "value": f"no such product sku{group}x", "stacktrace": {"frames": frames(group)}}
            ]
        },
    }
    payload = json.dumps(event).encode()
    head = json.dumps({"event_id": event_id}).encode()
    item = json.dumps({"type": "event", "length": len(payload)}).encode()
    auth = f"Sentry sentry_version=7, sentry_client=bench/1, sentry_key={key}"
    headers = {"X-Sentry-Auth": auth, "Content-Type": "application/x-sentry-envelope"}
    return f"/api/{project}/envelope/", b"\n".join([head, item, payload]) + b"\n", headers


def measure_error_tracker() -> Row:
    folder = empty_folder("tracker")
    with monlight("error-tracker", folder, {}) as server:
        time.sleep(1)
        idle, cpu = server.mb(), server.cpu_s()
        seconds = send_all(server.port, [monlight_request(number) for number in range(REPORTS)])
        cpu = server.cpu_s() - cpu
        key = {"X-API-Key": "k"}
        queries = [latency_ms(server.port, f"/api/errors{path}", key) for path in ("", "/1", "?search=sku42x")]
        after, start = server.mb(), server.start_ms
    # Verifies that every acknowledged report was stored.
    with sqlite3.connect(folder / "data" / "errors.db") as database:
        (stored,) = database.execute("SELECT sum(count) FROM error_groups").fetchone()
    if stored != REPORTS:
        raise RuntimeError(f"the error tracker stored {stored} of {REPORTS} acknowledged reports")
    rate, size = REPORTS / seconds, disk_bytes(folder / "data") / REPORTS
    binary = (ROOT / "error-tracker").stat().st_size / 1e6
    return [start, idle, after, rate, rate, cpu / REPORTS * 10_000, size, *queries, binary]


def configure_bugsink(folder: Path, port: int) -> None:
    """Sets up Bugsink as its manual describes for a single server, without rate limits and telemetry."""
    create = ["--template=singleserver", "--host=127.0.0.1", f"--base-dir={folder}"]
    subprocess.run([BUGSINK / "bin" / "bugsink-create-conf", *create], cwd=folder, check=True, capture_output=True)
    spans = ["PER_PROJECT_PER_5_MINUTES", "PER_PROJECT_PER_HOUR", "PER_5_MINUTES", "PER_HOUR"]
    limits = {f"MAX_EVENTS_{span}": 1_000_000 for span in spans}
    settings = {"BASE_URL": f"http://127.0.0.1:{port}", "PHONEHOME": False, **limits}
    with (folder / "bugsink_conf.py").open("a") as file:
        file.write(f"\nBUGSINK.update({settings!r})\nSECURE_PROXY_SSL_HEADER = None\n")
    for arguments in (["migrate"], ["migrate", "snappea", "--database=snappea"]):
        run_bugsink_manage(folder, *arguments)


def run_bugsink_manage(folder: Path, *arguments: str) -> str:
    command = [str(BUGSINK / "bin" / "bugsink-manage"), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"bugsink-manage {arguments[0]} failed: {result.stderr[-500:]}")
    return result.stdout


def count_rows(path: Path, table: str) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=TIMEOUT_S) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def measure_bugsink() -> Row:
    if not (BUGSINK / "bin" / "bugsink-manage").exists():
        raise UnavailableError("Bugsink is not installed in target/peers")
    folder, port = empty_folder("bugsink"), free_port()
    configure_bugsink(folder, port)
    output = run_bugsink_manage(
        folder,
        "shell",
        "-c",
        "from projects.models import Project; p = Project.objects.create(name='shop', slug='shop'); "
        "print('key', p.id, p.sentry_key.hex)",
    )
    match = re.search(r"^key (\d+) (\w+)$", output, re.MULTILINE)
    assert match, output
    project, key = int(match[1]), match[2]
    token = run_bugsink_manage(folder, "create_auth_token").split()[-1]
    empty = disk_bytes(folder / "db.sqlite3")
    gunicorn = ["gunicorn", f"--bind=127.0.0.1:{port}", "--workers=2", "--access-logfile=/dev/null", "bugsink.wsgi"]
    commands = [[str(BUGSINK / "bin" / gunicorn[0]), *gunicorn[1:]], [str(BUGSINK / "bin" / "bugsink-runsnappea")]]
    env = {"PYTHONUNBUFFERED": "1", "DJANGO_SETTINGS_MODULE": "bugsink_conf", "PYTHONPATH": str(folder)}
    with serving(commands, folder, env, port, "/health/ready") as server:
        figures = load_and_query_bugsink(server, folder, project, key, token)
    size = (disk_bytes(folder / "db.sqlite3") - empty) / REPORTS
    figures[6:6] = [size]
    installed = disk_bytes(BUGSINK) / 1e6
    shutil.rmtree(folder, ignore_errors=True)
    return [*figures, installed]


def load_and_query_bugsink(server: Server, folder: Path, project: int, key: str, token: str) -> Row:
    server.wait_until_idle()
    idle, cpu, start = server.mb(), server.cpu_s(), time.monotonic()
    seconds = send_all(server.port, [envelope_request(number, project, key) for number in range(REPORTS)])
    wait_until(
        lambda: count_rows(folder / "db.sqlite3", "events_event") >= REPORTS, "Bugsink has stored all events", 180
    )
    stored = time.monotonic() - start
    cpu = server.cpu_s() - cpu
    bearer = {"Authorization": f"Bearer {token}"}
    issues = f"/api/canonical/0/issues/?project={project}"
    with sqlite3.connect(folder / "db.sqlite3") as database:
        (issue,) = database.execute("SELECT id FROM issues_issue LIMIT 1").fetchone()
    paths = (issues, f"/api/canonical/0/issues/{uuid.UUID(issue)}/")
    queries = [latency_ms(server.port, path, bearer) for path in paths]
    after = server.mb()
    return [
        server.start_ms,
        idle,
        after,
        REPORTS / seconds,
        REPORTS / stored,
        cpu / REPORTS * 10_000,
        *queries,
        None,
    ]


def version() -> str:
    command = [BUGSINK / "bin" / "bugsink-show-version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
