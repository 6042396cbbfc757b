"""Error reports into our tracker and into Bugsink, each by its own interface, and questions about them."""

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
    PATIENCE_S,
    PEERS,
    ROOT,
    Server,
    UnavailableError,
    disk_bytes,
    folder,
    free_port,
    latency_ms,
    ours,
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
    "bytes on disk each",
    "list ms",
    "one ms",
    "search ms",
    "installed MB",
]

Row = list[Any]
Request = tuple[str, bytes, dict[str, str]]


def frames(group: int) -> list[dict[str, Any]]:
    """Where it happened, the outermost first."""
    outer = {"filename": "/app/shop/views.py", "function": "dispatch", "context_line": "return handler(request, *args)"}
    stack = [{**outer, "lineno": 118 + at} for at in range(FRAMES)]
    inner = {"filename": "/app/shop/cart.py", "function": f"add_{group}", "context_line": "raise ValueError(product)"}
    return [*stack, {**inner, "lineno": group + 1}]


def ours_of(number: int) -> Request:
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


def envelope_of(number: int, project: int, key: str) -> Request:
    """The same as an envelope of Sentry's protocol."""
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


def tracker() -> Row:
    place = folder("tracker")
    with ours("error-tracker", place, {}) as server:
        time.sleep(1)
        idle, cpu = server.mb(), server.cpu_s()
        seconds = send_all(server.port, [ours_of(number) for number in range(REPORTS)])
        cpu = server.cpu_s() - cpu
        key = {"X-API-Key": "k"}
        asked = [latency_ms(server.port, f"/api/errors{path}", key) for path in ("", "/1", "?search=sku42x")]
        after, start = server.mb(), server.start_ms
    # What it stored, since this is as many as were acknowledged or a lie.
    with sqlite3.connect(place / "data" / "errors.db") as database:
        (stored,) = database.execute("SELECT sum(count) FROM errors").fetchone()
    if stored != REPORTS:
        raise RuntimeError(f"the tracker has {stored} of {REPORTS} reports")
    rate, size = REPORTS / seconds, disk_bytes(place / "data") / REPORTS
    binary = (ROOT / "error-tracker").stat().st_size / 1e6
    return [start, idle, after, rate, rate, cpu / REPORTS * 10_000, size, *asked, binary]


def configure(place: Path, port: int) -> None:
    """Bugsink as its manual sets up a single server, but for its limits and for calling home."""
    create = ["--template=singleserver", "--host=127.0.0.1", f"--base-dir={place}"]
    subprocess.run([BUGSINK / "bin" / "bugsink-create-conf", *create], cwd=place, check=True, capture_output=True)
    spans = ["PER_PROJECT_PER_5_MINUTES", "PER_PROJECT_PER_HOUR", "PER_5_MINUTES", "PER_HOUR"]
    limits = {f"MAX_EVENTS_{span}": 1_000_000 for span in spans}
    own = {"BASE_URL": f"http://127.0.0.1:{port}", "PHONEHOME": False, **limits}
    with (place / "bugsink_conf.py").open("a") as file:
        file.write(f"\nBUGSINK.update({own!r})\nSECURE_PROXY_SSL_HEADER = None\n")
    for words in (["migrate"], ["migrate", "snappea", "--database=snappea"]):
        manage(place, *words)


def manage(place: Path, *words: str) -> str:
    command = [str(BUGSINK / "bin" / "bugsink-manage"), *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bugsink-manage {words[0]}: {done.stderr[-500:]}")
    return done.stdout


def count(database: Path, table: str) -> int:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=PATIENCE_S) as opened:
        return int(opened.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def bugsink() -> Row:
    if not (BUGSINK / "bin" / "bugsink-manage").exists():
        raise UnavailableError("Bugsink could not be installed here")
    place, port = folder("bugsink"), free_port()
    configure(place, port)
    made = manage(
        place,
        "shell",
        "-c",
        "from projects.models import Project; p = Project.objects.create(name='shop', slug='shop'); "
        "print('key', p.id, p.sentry_key.hex)",
    )
    found = re.search(r"^key (\d+) (\w+)$", made, re.MULTILINE)
    assert found, made
    project, key = int(found[1]), found[2]
    token = manage(place, "create_auth_token").split()[-1]
    empty = disk_bytes(place / "db.sqlite3")
    web = ["gunicorn", f"--bind=127.0.0.1:{port}", "--workers=2", "--access-logfile=/dev/null", "bugsink.wsgi"]
    commands = [[str(BUGSINK / "bin" / web[0]), *web[1:]], [str(BUGSINK / "bin" / "bugsink-runsnappea")]]
    env = {"PYTHONUNBUFFERED": "1", "DJANGO_SETTINGS_MODULE": "bugsink_conf", "PYTHONPATH": str(place)}
    with serving(commands, place, env, port, "/health/ready") as server:
        figures = ask_bugsink(server, place, project, key, token)
    size = (disk_bytes(place / "db.sqlite3") - empty) / REPORTS
    figures[6:6] = [size]
    installed = disk_bytes(BUGSINK) / 1e6
    shutil.rmtree(place, ignore_errors=True)
    return [*figures, installed]


def ask_bugsink(server: Server, place: Path, project: int, key: str, token: str) -> Row:
    server.settled()
    idle, cpu, began = server.mb(), server.cpu_s(), time.monotonic()
    seconds = send_all(server.port, [envelope_of(number, project, key) for number in range(REPORTS)])
    wait_until(lambda: count(place / "db.sqlite3", "events_event") >= REPORTS, "all events are stored", 180)
    stored = time.monotonic() - began
    cpu = server.cpu_s() - cpu
    bearer = {"Authorization": f"Bearer {token}"}
    issues = f"/api/canonical/0/issues/?project={project}"
    with sqlite3.connect(place / "db.sqlite3") as database:
        (issue,) = database.execute("SELECT id FROM issues_issue LIMIT 1").fetchone()
    asked = [latency_ms(server.port, path, bearer) for path in (issues, f"/api/canonical/0/issues/{uuid.UUID(issue)}/")]
    after = server.mb()
    return [
        server.start_ms,
        idle,
        after,
        REPORTS / seconds,
        REPORTS / stored,
        cpu / REPORTS * 10_000,
        *asked,
        None,
    ]


def version() -> str:
    command = [BUGSINK / "bin" / "bugsink-show-version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
