"""What the benches and other measurements have left in target/figures/, as a page and as ratios to be held to.

    figures.py machine    measures the machine: processor, memory, kernel, file system, what its disk needs for a flush
    figures.py render     makes docs/benchmarks.md and benches/figures.json; what was not measured keeps its figures
    figures.py compare    points out each ratio over 20 % worse than the committed one; exit code 1 if there is any

Each part is a JSON file {"name", "title", "command", "order", "notes": [text], "summary": [[what, figures]],
"tables": [{"title", "note", "columns", "rows"}], "ratios": [{"row", "to", "value", "loose": why}]}; `summary`, `note`
and `loose` may be left out. In a ratio more is better. One that is loose is shown and not held to.
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
# How much of a committed ratio must be left.
HELD = 0.8
FLUSHES = 500

Part = dict[str, Any]

INTRODUCTION = """\
# Benchmarks

How fast, how small and how quiet Monlight is, measured by one command, `make bench`, which also makes this page.
Nothing here is typed by hand.

**How to read it.** A rate alone says as much about the machine as about the program. So each figure stands beside
something measured in the same run, in turns with it: a *ceiling*, which does the least that has to be done (the same
server with a handler that does nothing, bare SQLite inserts of the same rows, only parsing the same JSON), or a *peer*,
another program that was given the same data. `of` a ceiling is the share of it that is reached per second of CPU time:
0.50 means that each thing costs twice what it costs the ceiling, and 1.00 cannot be hoped for. Rates and ratios are
better when they are larger; times, memory and bytes when they are smaller. Figures are medians of several rounds.

Other machines have other rates, and nearly the same ratios. `make bench-compare` measures (or takes what was just
measured) and points out every ratio that has become more than 20 % worse than the one that was committed here.
`make bench ONLY=error_tracker` measures one part; what is not measured keeps its figures.
"""


def parts() -> list[Part]:
    """What was measured in this checkout, in the order of the page."""
    found = [json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))]
    for part in found:
        measured = (FIGURES / f"{part['name']}.json").stat().st_mtime
        part.setdefault("date", datetime.datetime.fromtimestamp(measured, datetime.timezone.utc).date().isoformat())
    return sorted(found, key=lambda part: (part["order"], part["name"]))


def git(*words: str) -> str:
    answer = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def commit() -> str:
    changed = git("status", "--porcelain", "--", "src", "bins", "sql", "static", "Cargo.lock", "Cargo.toml")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


# The machine


def said_by(path: str, field: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return "unknown"


def file_system(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    under = [mount for mount in mounts if folder == Path(mount[1]) or Path(mount[1]) in folder.parents]
    # Of several at the longest path the last lies on top.
    return max(enumerate(under), key=lambda numbered: (len(numbered[1][1]), numbered[0]))[1][2]


def flushes_ms() -> list[float]:
    """How long the disk needs to flush 4 KB that were appended to a file."""
    path, taken = FIGURES / "flushed", []
    with path.open("wb", buffering=0) as file:
        for _ in range(FLUSHES):
            file.write(b"\7" * 4096)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - start) * 1e3)
    path.unlink()
    return sorted(taken)


def machine() -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    taken = flushes_ms()
    p99 = taken[int((len(taken) - 1) * 0.99)]
    memory_gb = int(said_by("/proc/meminfo", "MemTotal").split()[0]) * 1024 / 1e9
    disk = f"{statistics.median(taken):.2f} ms median, {p99:.2f} ms 99th percentile of {FLUSHES}"
    rows = [
        ["processor", said_by("/proc/cpuinfo", "model name")],
        ["processors", f"{os.cpu_count()}"],
        ["memory", f"{memory_gb:.0f} GB"],
        ["kernel", f"{platform.system()} {platform.release()}"],
        ["file system", file_system(FIGURES)],
        ["a flush of 4 KB by the disk (fdatasync)", disk],
        ["Monlight", f"commit {commit()}"],
    ]
    part = {
        "name": "machine",
        "title": "The machine",
        "command": "make bench",
        "order": 0,
        "notes": [],
        "tables": [{"title": "", "columns": ["", "measured on"], "rows": rows}],
        "ratios": [],
    }
    (FIGURES / "machine.json").write_text(json.dumps(part, indent=2))
    for what, figure in rows:
        print(f"{what:<48} {figure}")


# The page


def shown(cell: Any) -> str:
    """A number with as many places as it is good for."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    if isinstance(cell, int):
        return f"{cell:,}"
    size = abs(cell)
    if size == 0:
        return "0"
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{cell:,.{places}f}"


def thousands(text: str) -> str:
    return re.sub(r"(?<![\d.])\d{4,}", lambda number: f"{int(number[0]):,}", text)


def table(columns: list[str], rows: list[list[Any]]) -> list[str]:
    rows = [row + [None] * (len(columns) - len(row)) for row in rows]
    # Columns of figures are flush right, those of sentences are not.
    text = [all(row[at] is None or isinstance(row[at], str) for row in rows) for at in range(len(columns))]
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join("---" if flat else "---:" for flat in text) + "|"]
    return lines + ["| " + " | ".join(shown(cell) for cell in row) + " |" for row in rows]


def filled(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def section(part: Part, run: str) -> list[str]:
    lines = ["", f"## {part['title']}", ""]
    taken = f", on {part['date']} at commit {part['commit']}" if f"{part['date']} {part['commit']}" != run else ""
    lines.append(f"`{part['command']}`{taken}")
    for note in part["notes"]:
        lines += ["", *filled(note)]
    for one in part["tables"]:
        lines += ["", *([f"**{one['title']}**", ""] if one["title"] else [])]
        lines += [*filled(one["note"]), ""] if one.get("note") else []
        lines += table(one["columns"], one["rows"])
    return lines


def page(document: dict[str, Any]) -> str:
    measured = sorted(document["parts"].values(), key=lambda part: (part["order"], part["name"]))
    run = f"{document['date']} {document['commit']}"
    lines = [INTRODUCTION, f"Measured on {document['date']} at commit {document['commit']}.", "", "## In short", ""]
    rows = [[what, thousands(said)] for part in measured for what, said in part.get("summary", [])]
    lines += table(["", "median"], rows)
    for part in measured:
        lines += section(part, run)
    return "\n".join(lines) + "\n"


def render() -> None:
    measured = parts()
    if not measured:
        sys.exit("nothing was measured: make bench")
    old = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {"parts": {}}
    now = commit()
    for part in measured:
        part.setdefault("commit", now)
    kept = {**old["parts"], **{part["name"]: part for part in measured}}
    newest = max(measured, key=lambda part: part["date"])
    document = {"date": newest["date"], "commit": newest["commit"], "parts": kept}
    COMMITTED.write_text(laid_out(document))
    PAGE.write_text(page(document))
    print(f"{PAGE.relative_to(ROOT)} and {COMMITTED.relative_to(ROOT)} have {len(measured)} parts of this run")


def laid_out(document: dict[str, Any]) -> str:
    """JSON with a line for each row and each ratio, so that a commit shows what has changed."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    line = re.compile(r"([\[{])\n\s+([^\[\]{}]*?)\n\s+([\]}])")
    return line.sub(lambda found: found[1] + re.sub(r"\n\s+", " ", found[2]) + found[3], text) + "\n"


# Comparing


def committed() -> dict[str, Any]:
    """What the last commit has; what lies here may have been made of the figures that are to be judged."""
    text = git("show", f"HEAD:{COMMITTED.relative_to(ROOT)}") or (COMMITTED.read_text() if COMMITTED.exists() else "")
    if not text:
        sys.exit(f"{COMMITTED.relative_to(ROOT)} is not there to compare with")
    document: dict[str, Any] = json.loads(text)
    return document


def ratios(part: Part) -> dict[tuple[str, str], float]:
    return {(one["row"], one["to"]): one["value"] for one in part["ratios"] if not one.get("loose")}


def compare() -> None:
    then, worse, held = committed()["parts"], [], 0
    measured = {part["name"]: part for part in parts()}
    for name, part in sorted(then.items()):
        if name not in measured:
            print(f"{name}: not measured")
            continue
        now = ratios(measured[name])
        loose = {(one["row"], one["to"]) for one in measured[name]["ratios"] if one.get("loose")}
        for (row, to), value in ratios(part).items():
            held += 1
            if (row, to) not in now:
                if (row, to) not in loose:
                    worse.append((f"{name}: {row}, to {to}", f"{value:.3f}", "gone"))
            elif now[row, to] < value * HELD:
                share = now[row, to] / value
                worse.append((f"{name}: {row}, to {to}", f"{value:.3f}", f"{now[row, to]:.3f} ({share:.0%})"))
    for row, before, after in worse:
        print(f"{row:<110} committed {before:>9}   now {after}")
    print(f"{held} ratios held to, {len(worse)} of them worse by more than {1 - HELD:.0%} or gone")
    sys.exit(1 if worse else 0)


COMMANDS = {"machine": machine, "render": render, "compare": compare}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]]()
