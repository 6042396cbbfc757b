"""Ours beside others that do the same, on the same machine, in the same run, with the same data.

Run by `make bench` or alone by `make peers-bench`. It leaves target/figures/peers.json.
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
from measure import FIGURES, SCRATCH, UnavailableError, debian, folder, run_once

# All of it takes three minutes on two cores.
LIMIT_S = 8 * 60
DEBIAN = ("victoria-metrics", "prometheus", "lnav")
LOOSE = "a peer's pace is not ours to hold, and its version is Debian's or its own"
SAID = "how durable an acknowledged one is"

Contender = tuple[str, str, Callable[[], list[Any]]]

ERRORS: list[Contender] = [
    ("Monlight's error-tracker", "flushed to the disk", errors.tracker),
    ("Bugsink", "in a file and a queue; it is stored a little later", errors.bugsink),
]
METRICS: list[Contender] = [
    ("Monlight's metrics-collector", "committed; a power cut may take the last moments", metrics.collector),
    ("VictoriaMetrics", "in memory; on the disk within seconds", metrics.victoria_metrics),
    ("Prometheus", "in its log; a power cut may take the last moments", metrics.prometheus),
]

INTRODUCTION = """\
Each was fed by the same clients with the same data, by its own interface, with its own defaults but for limits of
rate and calls home; memory is what its processes have (shared pages once), CPU that of all its processes. Clients
are Python programs on the same machine, so the rates of the fastest are as much the clients'; CPU time is not.
Sentry, GlitchTip, Netdata and Dozzle are not compared: none of them can be had from the package managers that this
runs with."""

ERRORS_SAY = f"""\
{errors.REPORTS:,} reports of {errors.FRAMES} frames in {errors.GROUPS} groups, over 4 connections: `POST /api/errors`
for ours, Sentry's envelopes for Bugsink, with gunicorn's two workers and its own SQLite. **Why they differ:** Bugsink is a
Django application of several processes that keeps every event whole, takes everything that Sentry's SDKs send, and
has users, teams and permissions; ours keeps a traceback once for a group, the five newest occurrences beside it, and
counts the others. Bugsink's search is in its pages only."""
METRICS_SAY = f"""\
{metrics.SERIES:,} series of a gauge, {metrics.TIMES} points each, {metrics.STEP_S} s apart, over one connection in
batches of 1,000: JSON for ours, Prometheus' remote write for the others. Prometheus' bytes are those of a
snapshot's blocks, which is what its log becomes after two hours. **Why they differ:** both keep a point in a few
bytes, compressed by time and series, where ours keeps a row of SQLite for an hour and then summaries of minutes and
hours; so they are the better place for years of points and for PromQL. Ours answers charts from these summaries,
which are made as points come in: that costs CPU on the way in and makes the questions cheap. It takes a fraction of
the memory and is one program less to run."""
LOGS_SAY = f"""\
{logs.LINES:,} lines of three containers in Docker's own files. The newest 100 lines and the number of all that
match; grep and lnav read all files for each question, the viewer has indexed them before. **Why they differ:** grep
needs no index, no disk and no time to be ready, and where lines are few or are asked for once, it is the right
tool; for a regular expression it beats the viewer, which looks through the text of all entries in SQLite. The index
pays for words that are asked for again and again, by several people, in a page that follows. lnav parses every line
at each start, and can then show them merged by time; its times are of such a start."""


def measured(title: str, columns: list[str], contenders: list[Contender]) -> dict[str, Any]:
    rows = []
    for name, durable, measure in contenders:
        try:
            figures = measure()
        except UnavailableError as why:
            rows.append([name, f"not measured: {why}"])
            continue
        rows.append([name, durable, *figures])
        print(name)
        for column, figure in zip(columns, figures, strict=True):
            print(f"    {column:<30} {figure if figure is None else round(figure, 3)}", flush=True)
    return {"title": title, "columns": ["", SAID, *columns], "rows": rows}


def ratios(table: dict[str, Any], wanted: dict[str, bool]) -> list[dict[str, Any]]:
    """How the first row compares to the others in these columns; `True` where more is better."""
    ours, *others = table["rows"]
    found = []
    for column, more in wanted.items():
        at = table["columns"].index(column)
        for other in others:
            if len(other) > at and other[at] and ours[at]:
                value = ours[at] / other[at] if more else other[at] / ours[at]
                row = f"{table['title']}: {column}"
                found.append({"row": row, "to": other[0], "value": value, "loose": LOOSE})
    return found


def search(place: Path) -> dict[str, Any]:
    paths = logs.write_logs(place)
    viewer: list[Contender] = [
        ("Monlight's log-viewer", "indexed", lambda: logs.viewer(place)),
        ("grep", "reads the files", lambda: logs.grep(paths)),
        ("lnav", "reads the files", lambda: logs.lnav(paths)),
    ]
    table = measured("Search in logs", logs.COLUMNS, viewer)
    table["columns"][1] = "how"
    return table


def versions() -> str:
    found = [("grep", grep_version), ("Bugsink", errors.version)]
    found += [(program, partial(debian_version, program)) for program in DEBIAN]
    return "Versions: " + ", ".join(f"{name} {version_or_none(version)}" for name, version in found) + "."


def version_or_none(version: Callable[[], str]) -> str:
    try:
        return version()
    except (UnavailableError, FileNotFoundError):
        return "(not here)"


def grep_version() -> str:
    return run_once(["grep", "--version"], {})[3].split("\n")[0].split()[-1]


def debian_version(program: str) -> str:
    """Of the package that the program was unpacked from."""
    debian(program)
    text = run_once(["apt-cache", "policy", program], {})[3]
    return text.split("Candidate:")[1].split()[0]


def main() -> None:
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"the peers took longer than {LIMIT_S} s"))
    signal.alarm(LIMIT_S)
    (FIGURES / "peers.json").unlink(missing_ok=True)
    FIGURES.mkdir(parents=True, exist_ok=True)
    tables = [
        measured("Error reports", errors.COLUMNS, ERRORS),
        measured("Points", metrics.COLUMNS, METRICS),
        search(folder("containers")),
    ]
    compared = [
        *ratios(tables[0], {"MB after": False, "stored/s": True, "CPU s per 10,000": False}),
        *ratios(tables[1], {"MB after": False, "points/s": True, "CPU s per 10,000": False}),
        *ratios(tables[1], {"bytes on disk each": False, "all, 1h by the minute ms": False}),
        *ratios(tables[2], {"rare word ms": False, "regex ms": False}),
    ]
    part = {
        "name": "peers",
        "title": "Beside others",
        "command": "make peers-bench",
        "order": 60,
        "notes": [INTRODUCTION, versions()],
        "summary": summary(tables),
        "tables": [
            {**table, "note": note} for table, note in zip(tables, (ERRORS_SAY, METRICS_SAY, LOGS_SAY), strict=True)
        ],
        "ratios": compared,
    }
    (FIGURES / "peers.json").write_text(json.dumps(part, indent=2))
    shutil.rmtree(SCRATCH, ignore_errors=True)


def summary(tables: list[dict[str, Any]]) -> list[list[str]]:
    said = []
    for table in tables[:2]:
        at, memory = table["columns"].index("CPU s per 10,000"), table["columns"].index("MB after")
        parts = [f"{row[0]} {row[at]:.2f} s, {row[memory]:.0f} MB" for row in table["rows"] if len(row) > at]
        said.append([f"CPU time of 10,000 {table['title'].lower()}, memory after", "; ".join(parts)])
    return said


if __name__ == "__main__":
    main()
