"""Renders benchmark results as docs/benchmarks.md and compares their ratios with the committed ones.

    figures.py machine    describes the machine: processor, memory, kernel, file system, duration of a disk flush
    figures.py render     writes docs/benchmarks.md and benches/figures.json; parts that were not measured are kept
    figures.py compare    reports each ratio that is over 20 % worse than the committed one; exit code 1 if there is any

Benchmarks and other measurements write one JSON file per part to target/figures/: {"name", "title", "command", "order",
"notes": [string], "summary": [[label, result]], "tables": [{"title", "note", "columns", "rows"}], "ratios": [{"row",
"to", "value", "loose": reason}]}. "summary", "note" and "loose" are optional. A larger ratio is better. A ratio with
"loose" is reported but not compared, for the given reason.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "target" / "figures"
COMMITTED = ROOT / "benches" / "figures.json"
PAGE = ROOT / "docs" / "benchmarks.md"
# Minimum share of a committed ratio that a new one must reach.
SHARE_MIN = 0.8
FLUSHES = 500

Part = dict[str, Any]

INTRODUCTION = """\
# Benchmarks

Speed, size and resource use of Monlight. One command, `make bench`, takes all measurements and generates this page.

**How to read the tables.** A rate depends on the machine as much as on the program. Each figure is therefore compared
with something measured in the same run, in alternating turns. A *ceiling* does the minimum of the work: the same server
with a handler that does nothing, raw SQLite inserts of the same rows, or only the parsing of the same JSON. A *peer* is
another program that processes the same data. A column `of <ceiling>` shows which share of the ceiling's work per
CPU-second is reached: 0.50 means that an item costs twice the CPU time that it costs the ceiling; 1.00 equals the
ceiling. Higher rates and ratios are better; lower times, memory and bytes are better. Each figure is the median of
several rounds.

Other machines have other rates but similar ratios. `make bench-compare` compares the most recent measurements with the
committed ones and reports every ratio that is more than 20 % worse. `make bench ONLY=error_tracker` measures one part;
the other parts keep their figures.
"""


def parts() -> list[Part]:
    """Returns the measured parts of this checkout in the order of the page."""
    measured_parts = [json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))]
    for part in measured_parts:
        modified = (FIGURES / f"{part['name']}.json").stat().st_mtime
        part.setdefault("date", datetime.datetime.fromtimestamp(modified, datetime.timezone.utc).date().isoformat())
    return sorted(measured_parts, key=lambda part: (part["order"], part["name"]))


def git(*arguments: str) -> str:
    """Returns the output of a git command; an empty string if it fails."""
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def commit() -> str:
    changed = git("status", "--porcelain", "--", "src", "bins", "sql", "static", "Cargo.lock", "Cargo.toml")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with uncommitted changes" if changed else "")


# The machine


def proc_field(path: str, field: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return "unknown"


def file_system(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    containing = [mount for mount in mounts if folder == Path(mount[1]) or Path(mount[1]) in folder.parents]
    # The longest mount point applies; if it is mounted several times, the last mount hides the others.
    return max(enumerate(containing), key=lambda numbered: (len(numbered[1][1]), numbered[0]))[1][2]


def flushes_ms() -> list[float]:
    """Appends 4 KB to a file and flushes it, FLUSHES times. Returns the sorted durations of the flushes in ms."""
    path, durations = FIGURES / "flushed", []
    with path.open("wb", buffering=0) as file:
        for _ in range(FLUSHES):
            file.write(b"\7" * 4096)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            durations.append((time.perf_counter() - start) * 1e3)
    path.unlink()
    return sorted(durations)


def machine() -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    durations = flushes_ms()
    p99 = durations[int((len(durations) - 1) * 0.99)]
    memory_gb = int(proc_field("/proc/meminfo", "MemTotal").split()[0]) * 1024 / 1e9
    disk = f"median {statistics.median(durations):.2f} ms, 99th percentile {p99:.2f} ms, of {FLUSHES}"
    rows = [
        ["processor", proc_field("/proc/cpuinfo", "model name")],
        ["logical CPUs", f"{os.cpu_count()}"],
        ["memory", f"{memory_gb:.0f} GB"],
        ["kernel", f"{platform.system()} {platform.release()}"],
        ["file system", file_system(FIGURES)],
        ["disk flush of 4 KB (fdatasync)", disk],
        ["Monlight", f"commit {commit()}"],
    ]
    part = {
        "name": "machine",
        "title": "The machine",
        "command": "make bench",
        "order": 0,
        "notes": [],
        "tables": [{"title": "", "columns": ["", "value"], "rows": rows}],
        "ratios": [],
    }
    (FIGURES / "machine.json").write_text(json.dumps(part, indent=2))
    for label, value in rows:
        print(f"{label:<48} {value}")


# The page


def format_cell(cell: Any) -> str:
    """Formats a number with about three significant digits; escapes a string for a table."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    if isinstance(cell, int):
        return f"{cell:,}"
    magnitude = abs(cell)
    if magnitude == 0:
        return "0"
    places = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 0.1 else 3
    return f"{cell:,.{places}f}"


def separate_thousands(text: str) -> str:
    return re.sub(r"(?<![\d.])\d{4,}", lambda number: f"{int(number[0]):,}", text)


def table(columns: list[str], rows: list[list[Any]]) -> list[str]:
    rows = [row + [None] * (len(columns) - len(row)) for row in rows]
    # Columns with numbers are right-aligned, columns with only strings are left-aligned.
    textual = [all(row[at] is None or isinstance(row[at], str) for row in rows) for at in range(len(columns))]
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join("---" if left else "---:" for left in textual) + "|"]
    return lines + ["| " + " | ".join(format_cell(cell) for cell in row) + " |" for row in rows]


def wrap(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def section(part: Part, run: str) -> list[str]:
    lines = ["", f"## {part['title']}", ""]
    # Only parts of another run than the page's get their own date and commit.
    own_run = f", on {part['date']} at commit {part['commit']}" if f"{part['date']} {part['commit']}" != run else ""
    lines.append(f"`{part['command']}`{own_run}")
    for note in part["notes"]:
        lines += ["", *wrap(note)]
    for entry in part["tables"]:
        lines += ["", *([f"**{entry['title']}**", ""] if entry["title"] else [])]
        lines += [*wrap(entry["note"]), ""] if entry.get("note") else []
        lines += table(entry["columns"], entry["rows"])
    return lines


def page(document: dict[str, Any]) -> str:
    measured = sorted(document["parts"].values(), key=lambda part: (part["order"], part["name"]))
    run = f"{document['date']} {document['commit']}"
    lines = [INTRODUCTION, f"Measured on {document['date']} at commit {document['commit']}.", "", "## Summary", ""]
    rows = [[label, separate_thousands(result)] for part in measured for label, result in part.get("summary", [])]
    lines += table(["", "result"], rows)
    for part in measured:
        lines += section(part, run)
    return "\n".join(lines) + "\n"


def render() -> None:
    measured = parts()
    if not measured:
        sys.exit("target/figures has no results to render; run make bench first")
    old = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {"parts": {}}
    now = commit()
    for part in measured:
        part.setdefault("commit", now)
    kept = {**old["parts"], **{part["name"]: part for part in measured}}
    newest = max(measured, key=lambda part: part["date"])
    document = {"date": newest["date"], "commit": newest["commit"], "parts": kept}
    COMMITTED.write_text(to_json(document))
    PAGE.write_text(page(document))
    print(f"wrote {len(measured)} parts to {PAGE.relative_to(ROOT)} and {COMMITTED.relative_to(ROOT)}")


def to_json(document: dict[str, Any]) -> str:
    """Returns JSON with one line per row and per ratio, so that the diff of a commit is readable."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    line = re.compile(r"([\[{])\n\s+([^\[\]{}]*?)\n\s+([\]}])")
    return line.sub(lambda match: match[1] + re.sub(r"\n\s+", " ", match[2]) + match[3], text) + "\n"


# Comparing


def committed() -> dict[str, Any]:
    """Returns the figures of the last commit: render may have overwritten the file in the working tree."""
    text = git("show", f"HEAD:{COMMITTED.relative_to(ROOT)}") or (COMMITTED.read_text() if COMMITTED.exists() else "")
    if not text:
        sys.exit(f"{COMMITTED.relative_to(ROOT)} does not exist; there is nothing to compare with")
    document: dict[str, Any] = json.loads(text)
    return document


def compared_ratios(part: Part) -> dict[tuple[str, str], float]:
    return {(ratio["row"], ratio["to"]): ratio["value"] for ratio in part["ratios"] if not ratio.get("loose")}


def compare() -> None:
    earlier, worse, compared = committed()["parts"], [], 0
    measured = {part["name"]: part for part in parts()}
    for name, part in sorted(earlier.items()):
        if name not in measured:
            print(f"{name}: not measured")
            continue
        now = compared_ratios(measured[name])
        informational = {(ratio["row"], ratio["to"]) for ratio in measured[name]["ratios"] if ratio.get("loose")}
        for (row, to), value in compared_ratios(part).items():
            compared += 1
            if (row, to) not in now:
                if (row, to) not in informational:
                    worse.append((f"{name}: {row}, relative to {to}", f"{value:.3f}", "missing"))
            elif now[row, to] < value * SHARE_MIN:
                share = now[row, to] / value
                worse.append((f"{name}: {row}, relative to {to}", f"{value:.3f}", f"{now[row, to]:.3f} ({share:.0%})"))
    for row, before, after in worse:
        print(f"{row:<110} committed {before:>9}   now {after}")
    print(f"compared {compared} ratios; {len(worse)} are more than {1 - SHARE_MIN:.0%} worse or missing")
    sys.exit(1 if worse else 0)


COMMANDS = {"machine": machine, "render": render, "compare": compare}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]]()
