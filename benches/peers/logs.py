"""The same log files searched with grep and lnav, and indexed by our viewer, which was given the same to keep."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from measure import (
    ROOT,
    debian,
    disk_bytes,
    folder,
    get_json,
    latency_ms,
    ours,
    run_once,
    wait_until,
)

LINES = 100_000
CONTAINERS = ("shop-web-1", "shop-api-1", "shop-worker-1")
RARE_EVERY = 5_000
TIMES = 5
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
COLUMNS = [
    "ready after s",
    "MB",
    "CPU s to be ready",
    "bytes on disk a line",
    "rare word ms",
    "frequent word ms",
    "regex ms",
    "count by level ms",
    "CPU ms a rare word",
    "installed MB",
]

Row = list[Any]

# Docker's own lines are none of the formats that lnav knows.
LNAV_FORMAT = {
    "$schema": "https://lnav.org/schemas/format-v1.schema.json",
    "docker_json": {
        "title": "Docker's JSON",
        "json": True,
        "file-pattern": r".*-json\.log",
        "timestamp-field": "time",
        "body-field": "log",
        "level-field": "log",
        "level": {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "critical": "CRITICAL"},
        "line-format": [{"field": "__timestamp__"}, " ", {"field": "log"}],
        "value": {"log": {"kind": "string"}, "stream": {"kind": "string"}},
    },
}


def chance(number: int) -> float:
    return (number * 0x9E37_79B9_7F4A_7C15 % 2**64 >> 11) / 2**53


def word(number: int) -> str:
    rank = int(4_096 * chance(number) ** 3)
    return f"{'bcdfghjklmnprstv'[rank % 16]}a{'lmnrst'[rank // 16 % 6]}{'eiou'[rank // 96 % 4]}{rank // 384}"


def text_of(number: int) -> str:
    level = "ERROR" if number % 23 == 0 else "WARNING" if number % 11 == 0 else "INFO"
    words = [word(number * 3 + at) for at in range(3)]
    rare = " deadlock" if number % RARE_EVERY == 0 else ""
    order, customer = number // 7 % 40_000, number % 9_999
    sent = f"sent the {words[1]} of order {order} to customer {customer} by {words[2]}"
    return f"{level} [shop.jobs.{words[0]}] {sent}{rare}"


def write_logs(place: Path) -> list[Path]:
    """Logs as Docker writes them, a day long, the last line of now."""
    paths, files = [], []
    for number, name in enumerate(CONTAINERS):
        home = place / f"{number:064x}"
        home.mkdir()
        path = home / f"{number:064x}-json.log"
        image = {"Image": "shop:1", "Labels": {}}
        config = {"ID": home.name, "Name": f"/{name}", "LogPath": str(path), "Config": image}
        (home / "config.v2.json").write_text(json.dumps(config))
        paths.append(path)
        files.append(path.open("w"))
    began = time.time() - 86_400
    for number in range(LINES):
        second, rest = divmod(began + number * 86_400 / LINES, 1)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + f".{int(rest * 1e9):09d}Z"
        line = {"log": text_of(number) + "\n", "stream": "stdout", "time": at}
        files[number % 3].write(json.dumps(line, separators=(",", ":")) + "\n")
    for file in files:
        file.close()
    return paths


RARE, FREQUENT, REGEX = "deadlock", "order", "customer 77[0-9]+ by"


def viewer(sources: Path) -> Row:
    place = folder("viewer")
    settings = {"LOG_SOURCES": str(sources), "TAIL_BUFFER": "1000000000", "MAX_ENTRIES": str(LINES + 10_000)}
    key = {"X-API-Key": "k"}
    with ours("log-viewer", place, settings) as server:
        began = time.monotonic()
        wait_until(lambda: get_json(server.port, "/health")["logs_indexed"] >= LINES, "all lines are indexed")
        ready, cpu = time.monotonic() - began, server.cpu_s()
        found = get_json(server.port, f"/api/logs?search={RARE}", key)["total"]
        if found != LINES // RARE_EVERY:
            raise RuntimeError(f"the viewer finds the rare word {found} times")
        before, times = server.cpu_s(), 500
        rare = latency_ms(server.port, f"/api/logs?search={RARE}", key, times)
        rare_cpu = (server.cpu_s() - before) / times * 1e3
        paths = (f"/api/logs?search={FREQUENT}", "/api/logs?regex=customer+77%5B0-9%5D%2B+by", "/api/logs/stats")
        asked = [latency_ms(server.port, path, key) for path in paths]
        mb = server.mb()
    size = disk_bytes(place / "data") / LINES
    return [ready, mb, cpu, size, rare, *asked, rare_cpu, (ROOT / "log-viewer").stat().st_size / 1e6]


def median_of(command: list[str], env: dict[str, str]) -> tuple[float, float, float, str]:
    """The median ms and CPU ms, the most MB, and the output of a command that is run some times."""
    runs = [run_once(command, env) for _ in range(TIMES)]
    return (
        statistics.median(run[0] for run in runs) * 1e3,
        statistics.median(run[1] for run in runs) * 1e3,
        max(run[2] for run in runs),
        runs[-1][3],
    )


def grep(paths: list[Path]) -> Row:
    files, found = " ".join(str(path) for path in paths), folder("grep") / "found"
    # The newest hundred, as the viewer answers them, with the number of all.
    asked = [
        median_of(["sh", "-c", f"grep -hE '{pattern}' {files} | tee {found} | tail -n 100; wc -l <{found}"], {})
        for pattern in (RARE, FREQUENT, REGEX)
    ]
    levels = median_of(["sh", "-c", f"grep -ohwE '{'|'.join(LEVELS)}' {files} | sort | uniq -c"], {})
    counts = [int(run[3].split()[-1]) for run in asked]
    if counts[0] != LINES // RARE_EVERY or counts[1] != LINES:
        raise RuntimeError(f"grep finds {counts}")
    program = Path(run_once(["sh", "-c", "command -v grep"], {})[3].strip())
    memory = run_once(["grep", "-chE", FREQUENT, *map(str, paths)], {})[2]
    size = disk_bytes(program.resolve()) / 1e6
    return [0.0, memory, 0.0, 0.0, *(run[0] for run in asked), levels[0], asked[0][1], size]


def lnav(paths: list[Path]) -> Row:
    program, env = debian("lnav")
    home = folder("lnav")
    formats = home / ".lnav" / "formats" / "installed"
    formats.mkdir(parents=True)
    (formats / "docker.json").write_text(json.dumps(LNAV_FORMAT))
    env = {**env, "HOME": str(home), "TERM": "dumb"}
    files = [str(path) for path in paths]

    def ask(*commands: str) -> tuple[float, float, float, str]:
        return median_of([str(program), "-n", *(word for command in commands for word in ("-c", command)), *files], env)

    asked = [ask(f":filter-in {pattern}") for pattern in (RARE, FREQUENT, REGEX)]
    levels = ask(";SELECT log_level, count(*) FROM docker_json GROUP BY 1", ":write-csv-to -")
    counts = [run[3].count("\n") for run in asked]
    if counts[0] < LINES // RARE_EVERY or counts[1] < LINES:
        raise RuntimeError(f"lnav finds {counts}")
    if "error," not in levels[3]:
        raise RuntimeError(f"lnav counts no levels: {levels[3][:300]}")
    memory = max(run[2] for run in (*asked, levels))
    return [0.0, memory, 0.0, 0.0, *(run[0] for run in asked), levels[0], asked[0][1], disk_bytes(program) / 1e6]
