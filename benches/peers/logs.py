"""Benchmark of log search: Monlight's log viewer, grep and lnav, with the same log files."""

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
    empty_folder,
    get_json,
    latency_ms,
    monlight,
    run_once,
    wait_until,
)

LINES = 100_000
CONTAINERS = ("shop-web-1", "shop-api-1", "shop-worker-1")
RARE_WORD_INTERVAL = 5_000
RUNS = 5
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
COLUMNS = [
    "ready after s",
    "MB",
    "CPU s until ready",
    "bytes on disk per line",
    "rare word ms",
    "frequent word ms",
    "regex ms",
    "count by level ms",
    "CPU ms per rare word",
    "installed MB",
]

Row = list[Any]

# lnav has no built-in format for Docker's json-file logs.
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


def pseudo_random(number: int) -> float:
    return (number * 0x9E37_79B9_7F4A_7C15 % 2**64 >> 11) / 2**53


def word(number: int) -> str:
    rank = int(4_096 * pseudo_random(number) ** 3)
    return f"{'bcdfghjklmnprstv'[rank % 16]}a{'lmnrst'[rank // 16 % 6]}{'eiou'[rank // 96 % 4]}{rank // 384}"


def message(number: int) -> str:
    level = "ERROR" if number % 23 == 0 else "WARNING" if number % 11 == 0 else "INFO"
    words = [word(number * 3 + at) for at in range(3)]
    rare = " deadlock" if number % RARE_WORD_INTERVAL == 0 else ""
    order, customer = number // 7 % 40_000, number % 9_999
    sent = f"sent the {words[1]} of order {order} to customer {customer} by {words[2]}"
    return f"{level} [shop.jobs.{words[0]}] {sent}{rare}"


def write_logs(folder: Path) -> list[Path]:
    """Writes json-file logs as Docker does. The timestamps span one day and end now."""
    paths, files = [], []
    for number, name in enumerate(CONTAINERS):
        container = folder / f"{number:064x}"
        container.mkdir()
        path = container / f"{number:064x}-json.log"
        image = {"Image": "shop:1", "Labels": {}}
        config = {"ID": container.name, "Name": f"/{name}", "LogPath": str(path), "Config": image}
        (container / "config.v2.json").write_text(json.dumps(config))
        paths.append(path)
        files.append(path.open("w"))
    start = time.time() - 86_400
    for number in range(LINES):
        second, fraction = divmod(start + number * 86_400 / LINES, 1)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + f".{int(fraction * 1e9):09d}Z"
        line = {"log": message(number) + "\n", "stream": "stdout", "time": at}
        files[number % 3].write(json.dumps(line, separators=(",", ":")) + "\n")
    for file in files:
        file.close()
    return paths


RARE, FREQUENT, REGEX = "deadlock", "order", "customer 77[0-9]+ by"


def measure_log_viewer(sources: Path) -> Row:
    folder = empty_folder("viewer")
    settings = {"LOG_SOURCES": str(sources), "TAIL_BUFFER": "1000000000", "MAX_ENTRIES": str(LINES + 10_000)}
    key = {"X-API-Key": "k"}
    with monlight("log-viewer", folder, settings) as server:
        start = time.monotonic()
        wait_until(
            lambda: get_json(server.port, "/health")["logs_indexed"] >= LINES, "the viewer has indexed all lines"
        )
        ready, cpu = time.monotonic() - start, server.cpu_s()
        matches = get_json(server.port, f"/api/logs?search={RARE}", key)["total"]
        if matches != LINES // RARE_WORD_INTERVAL:
            raise RuntimeError(f"the viewer found the rare word {matches} times, not {LINES // RARE_WORD_INTERVAL}")
        before, queries = server.cpu_s(), 500
        rare = latency_ms(server.port, f"/api/logs?search={RARE}", key, queries)
        rare_cpu = (server.cpu_s() - before) / queries * 1e3
        paths = (f"/api/logs?search={FREQUENT}", "/api/logs?regex=customer+77%5B0-9%5D%2B+by", "/api/logs/stats")
        other_queries = [latency_ms(server.port, path, key) for path in paths]
        mb = server.mb()
    size = disk_bytes(folder / "data") / LINES
    return [ready, mb, cpu, size, rare, *other_queries, rare_cpu, (ROOT / "log-viewer").stat().st_size / 1e6]


def median_run(command: list[str], env: dict[str, str]) -> tuple[float, float, float, str]:
    """Runs a command RUNS times. Returns the median ms and CPU ms, the maximum MB, and the last output."""
    runs = [run_once(command, env) for _ in range(RUNS)]
    return (
        statistics.median(run[0] for run in runs) * 1e3,
        statistics.median(run[1] for run in runs) * 1e3,
        max(run[2] for run in runs),
        runs[-1][3],
    )


def measure_grep(paths: list[Path]) -> Row:
    files, matches = " ".join(str(path) for path in paths), empty_folder("grep") / "matches"
    # Like a query of the viewer: the newest hundred lines and the total number.
    queries = [
        median_run(["sh", "-c", f"grep -hE '{pattern}' {files} | tee {matches} | tail -n 100; wc -l <{matches}"], {})
        for pattern in (RARE, FREQUENT, REGEX)
    ]
    levels = median_run(["sh", "-c", f"grep -ohwE '{'|'.join(LEVELS)}' {files} | sort | uniq -c"], {})
    counts = [int(run[3].split()[-1]) for run in queries]
    if counts[0] != LINES // RARE_WORD_INTERVAL or counts[1] != LINES:
        raise RuntimeError(f"grep found an unexpected number of lines: {counts}")
    program = Path(run_once(["sh", "-c", "command -v grep"], {})[3].strip())
    memory = run_once(["grep", "-chE", FREQUENT, *map(str, paths)], {})[2]
    size = disk_bytes(program.resolve()) / 1e6
    return [0.0, memory, 0.0, 0.0, *(run[0] for run in queries), levels[0], queries[0][1], size]


def measure_lnav(paths: list[Path]) -> Row:
    program, env = debian("lnav")
    home = empty_folder("lnav")
    formats = home / ".lnav" / "formats" / "installed"
    formats.mkdir(parents=True)
    (formats / "docker.json").write_text(json.dumps(LNAV_FORMAT))
    env = {**env, "HOME": str(home), "TERM": "dumb"}
    files = [str(path) for path in paths]

    def run(*commands: str) -> tuple[float, float, float, str]:
        return median_run(
            [str(program), "-n", *(word for command in commands for word in ("-c", command)), *files], env
        )

    queries = [run(f":filter-in {pattern}") for pattern in (RARE, FREQUENT, REGEX)]
    levels = run(";SELECT log_level, count(*) FROM docker_json GROUP BY 1", ":write-csv-to -")
    counts = [query[3].count("\n") for query in queries]
    if counts[0] < LINES // RARE_WORD_INTERVAL or counts[1] < LINES:
        raise RuntimeError(f"lnav found too few lines: {counts}")
    if "error," not in levels[3]:
        raise RuntimeError(f"lnav did not count by level: {levels[3][:300]}")
    memory = max(query[2] for query in (*queries, levels))
    return [
        0.0,
        memory,
        0.0,
        0.0,
        *(query[0] for query in queries),
        levels[0],
        queries[0][1],
        disk_bytes(program) / 1e6,
    ]
