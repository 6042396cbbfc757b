"""Compares Monlight with similar programs on the same machine, in the same run, with the same data.

Run by `make bench`, or alone by `make peers-bench`. Writes target/figures/peers.json.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import errors
import logs
import metrics
from measure import FIGURES, SCRATCH, UnavailableError, debian, empty_folder, run_once

# A complete run takes three minutes on two cores.
TIMEOUT_S = 8 * 60
DEBIAN_PROGRAMS = ("victoria-metrics", "prometheus", "lnav")
NOT_COMPARED = "the speed of another program, in the version installed here, is not ours to guarantee"
DURABILITY = "durability of an acknowledged record"

# Name, durability or method, and the function that measures the figures.
Contender = tuple[str, str, Callable[[], list[Any]]]

ERRORS: list[Contender] = [
    ("Monlight error-tracker", "flushed to disk", errors.measure_error_tracker),
    ("Bugsink", "in a file and a queue; stored a little later", errors.measure_bugsink),
]
METRICS: list[Contender] = [
    (
        "Monlight metrics-collector",
        "committed; recent writes may be lost on power failure",
        metrics.measure_metrics_collector,
    ),
    ("VictoriaMetrics", "in memory; on disk within seconds", metrics.measure_victoria_metrics),
    (
        "Prometheus",
        "in its write-ahead log; recent writes may be lost on power failure",
        metrics.measure_prometheus,
    ),
]

INTRODUCTION = """\
Every program receives the same data from the same clients through its own API. All settings have their default values,
except that rate limits and telemetry are off. Memory is that of all processes of a program, with shared pages counted
once; CPU time is that of all its processes. The clients are Python programs on the same machine, so they limit the
rates of the fastest servers; CPU time is not affected. Sentry, GlitchTip, Netdata and Dozzle are not compared, because
none of them is available from the package managers of this environment."""

ERRORS_NOTE = f"""\
{errors.REPORTS:,} reports of {errors.FRAMES} frames in {errors.GROUPS} groups, over 4 connections: `POST /api/errors`
for Monlight, Sentry envelopes for Bugsink, which runs with two gunicorn workers and its own SQLite database. **Why they
differ:** Bugsink is a Django application with several processes. It stores every event completely, accepts everything
that the Sentry SDKs send, and has users, teams and permissions. Monlight stores the stack trace once per group and the
five newest occurrences, and counts the others. Bugsink offers search only in its web UI."""
METRICS_NOTE = f"""\
{metrics.SERIES:,} series of a gauge with {metrics.POINTS_PER_SERIES} points each, {metrics.STEP_S} s apart, over one
connection in batches of 1,000: JSON for Monlight, Prometheus remote write for the others. For Prometheus, the bytes are
those of the blocks of a snapshot, into which it converts its write-ahead log after two hours. **Why they differ:**
VictoriaMetrics and Prometheus compress points by time and series to a few bytes. Monlight stores each point as a SQLite
row for an hour and then keeps rollups by minute and hour. The others are therefore a better choice for years of points
and for PromQL. Monlight computes the rollups while points arrive and renders charts from them; this costs CPU time
during ingestion and makes queries cheap. It needs a fraction of the memory and no additional program."""
LOGS_NOTE = f"""\
{logs.LINES:,} lines of three containers in Docker's json-file logs. A query returns the newest 100 lines and the total
number of matches. grep and lnav read all files for each query; the log viewer has indexed them before. **Why they
differ:** grep needs no index, no disk space and no preparation. It is the right tool for few lines or a single search,
and it is faster for regular expressions, for which the viewer scans the text of all entries in SQLite. The index pays
off when several people search for words repeatedly and follow new lines. lnav parses every line at each start and can
then show the files merged by time; its times include such a start."""


def measure_table(title: str, columns: list[str], contenders: list[Contender]) -> dict[str, Any]:
    rows = []
    for name, method, measure in contenders:
        try:
            figures = measure()
        except UnavailableError as error:
            rows.append([name, f"not measured: {error}"])
            continue
        rows.append([name, method, *figures])
        print(name)
        for column, figure in zip(columns, figures, strict=True):
            print(f"    {column:<30} {figure if figure is None else round(figure, 3)}", flush=True)
    return {"title": title, "columns": ["", DURABILITY, *columns], "rows": rows}


def ratios(table: dict[str, Any], columns: dict[str, bool]) -> list[dict[str, Any]]:
    """Returns the ratios of the first row to the others in the columns; `True` marks columns where more is better."""
    ours, *others = table["rows"]
    result = []
    for column, more_is_better in columns.items():
        at = table["columns"].index(column)
        for other in others:
            if len(other) > at and other[at] and ours[at]:
                value = ours[at] / other[at] if more_is_better else other[at] / ours[at]
                row = f"{table['title']}: {column}"
                result.append({"row": row, "to": other[0], "value": value, "loose": NOT_COMPARED})
    return result


def measure_log_search(folder: Path) -> dict[str, Any]:
    paths = logs.write_logs(folder)
    contenders: list[Contender] = [
        ("Monlight log-viewer", "indexed", lambda: logs.measure_log_viewer(folder)),
        ("grep", "reads the files", lambda: logs.measure_grep(paths)),
        ("lnav", "reads the files", lambda: logs.measure_lnav(paths)),
    ]
    table = measure_table("Log search", logs.COLUMNS, contenders)
    table["columns"][1] = "method"
    return table


def versions() -> str:
    programs = [("grep", grep_version), ("Bugsink", errors.version)]
    programs += [(program, partial(debian_version, program)) for program in DEBIAN_PROGRAMS]
    return "Versions: " + ", ".join(f"{name} {version_or_placeholder(version)}" for name, version in programs) + "."


def version_or_placeholder(version: Callable[[], str]) -> str:
    try:
        return version()
    except (UnavailableError, FileNotFoundError):
        return "(not installed)"


def grep_version() -> str:
    return run_once(["grep", "--version"], {})[3].split("\n")[0].split()[-1]


def debian_version(program: str) -> str:
    """Returns the version of the Debian package of a program."""
    debian(program)
    text = run_once(["apt-cache", "policy", program], {})[3]
    return text.split("Candidate:")[1].split()[0]


def main() -> None:
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"timeout: the peer benchmarks took longer than {TIMEOUT_S} s"))
    signal.alarm(TIMEOUT_S)
    (FIGURES / "peers.json").unlink(missing_ok=True)
    FIGURES.mkdir(parents=True, exist_ok=True)
    tables = [
        measure_table("Error reports", errors.COLUMNS, ERRORS),
        measure_table("Metric points", metrics.COLUMNS, METRICS),
        measure_log_search(empty_folder("containers")),
    ]
    table_ratios = [
        *ratios(tables[0], {"MB after": False, "stored/s": True, "CPU s per 10,000": False}),
        *ratios(tables[1], {"MB after": False, "points/s": True, "CPU s per 10,000": False}),
        *ratios(tables[1], {"bytes on disk per point": False, "all series, 1h by minute ms": False}),
        *ratios(tables[2], {"rare word ms": False, "regex ms": False}),
    ]
    part = {
        "name": "peers",
        "title": "Comparison with similar programs",
        "command": "make peers-bench",
        "order": 60,
        "notes": [INTRODUCTION, versions()],
        "summary": summary(tables),
        "tables": [
            {**table, "note": note} for table, note in zip(tables, (ERRORS_NOTE, METRICS_NOTE, LOGS_NOTE), strict=True)
        ],
        "ratios": table_ratios,
    }
    (FIGURES / "peers.json").write_text(json.dumps(part, indent=2))
    shutil.rmtree(SCRATCH, ignore_errors=True)


def summary(tables: list[dict[str, Any]]) -> list[list[str]]:
    result = []
    for table in tables[:2]:
        at, memory = table["columns"].index("CPU s per 10,000"), table["columns"].index("MB after")
        parts = [f"{row[0]} {row[at]:.2f} s, {row[memory]:.0f} MB" for row in table["rows"] if len(row) > at]
        result.append([f"CPU time of 10,000 {table['title'].lower()}, memory afterwards", "; ".join(parts)])
    return result


if __name__ == "__main__":
    main()
