"""What the tests have in common: the real services, applications in processes of their own, and patience."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

import httpx

KEY = "a-key-of-the-tests"
PATIENCE_S = 20.0
TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src"
BINARIES = Path(os.environ.get("MONLIGHT_BIN_DIR") or TESTS.parents[2])

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], what: str) -> T:
    """What `condition` answers as soon as that is true; fails when it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


class Process:
    """A process whose output is read, and which is killed in the end."""

    def __init__(self, command: list[str], environment: dict[str, str], ready: str) -> None:
        self.child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TESTS / "apps"
        )
        self.output: list[str] = []
        self._lines: Queue[str | None] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.ready_line = self._wait_for(ready)

    def _read(self) -> None:
        assert self.child.stdout is not None
        with self.child.stdout as stdout:
            for line in stdout:
                self.output.append(line)
                self._lines.put(line)
        self._lines.put(None)

    def _wait_for(self, ready: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                line = None
            assert line is not None, f"{ready!r} was never printed, but {''.join(self.output)}"
            if ready in line:
                return line

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Sends a signal, waits for the end and answers all that was printed."""
        self.child.send_signal(number)
        self.child.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return "".join(self.output)

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()
        self._reader.join(PATIENCE_S)


class Service:
    """One of the real services, with a database of its own. It can be killed and started again on the same port."""

    def __init__(self, name: str, folder: Path, **settings: str) -> None:
        self._name = name
        self._settings = {
            "API_KEY": KEY,
            "PORT": "0",
            "LISTEN_ADDR": "127.0.0.1",
            "DATABASE_PATH": str(folder / f"{name}.db"),
            "RATE_LIMIT": "0",
            "HOST_METRICS": "0",
            **settings,
        }
        self.start()

    def start(self) -> None:
        self._process = Process([str(BINARIES / self._name)], self._settings, "listening on")
        address = self._process.ready_line.rsplit(" ", 1)[1].strip()
        self._settings["PORT"] = address.rsplit(":", 1)[1]
        self.url = f"http://{address}"

    def kill(self) -> None:
        self._process.kill()

    def get(self, path: str, **query: str) -> Any:
        # No certificates: loading them takes longer than the request.
        with httpx.Client(verify=False, timeout=PATIENCE_S) as client:
            answer = client.get(self.url + path, params=query, headers={"X-API-Key": KEY})
        assert answer.status_code == 200, answer.text
        return answer.json()


class Tracker(Service):
    def groups(self, **query: str) -> list[dict[str, Any]]:
        return list(self.get("/api/errors", resolved="all", limit="200", **query)["errors"])

    def details(self, **query: str) -> list[dict[str, Any]]:
        return [self.get(f"/api/errors/{group['id']}") for group in self.groups(**query)]

    def only_report(self) -> dict[str, Any]:
        """The detail of the only group, as soon as there is one."""
        wait_until(self.groups, "a report")
        (detail,) = self.details()
        return detail

    def count(self) -> int:
        return sum(group["count"] for group in self.groups())


class Collector(Service):
    def buckets(self, name: str, **query: str) -> list[dict[str, Any]]:
        return list(self.get("/api/metrics", name=name, period="1h", **query)["data"])

    def total(self, name: str, **query: str) -> float:
        return float(sum(bucket["sum"] for bucket in self.buckets(name, **query)))

    def count(self, name: str, **query: str) -> int:
        return sum(bucket["count"] for bucket in self.buckets(name, **query))

    def totals(self, name: str, label: str) -> dict[str, float]:
        """The totals of a counter by a label."""
        groups = self.get("/api/metrics", name=name, period="1h", group_by=label)["groups"]
        return {group["value"]: sum(bucket["sum"] for bucket in group["data"]) for group in groups}

    def counts(self, name: str, label: str) -> dict[str, int]:
        """How many observations a histogram has by a label."""
        groups = self.get("/api/metrics", name=name, period="1h", group_by=label)["groups"]
        return {group["value"]: sum(bucket["count"] for bucket in group["data"]) for group in groups}


def environment(*services: Service, **more: str) -> dict[str, str]:
    """The variables of a process that runs this package, with the URLs of the services."""
    urls = {f"MONLIGHT_{type(service).__name__.upper()}": service.url for service in services}
    path = os.pathsep.join([str(SOURCES), str(TESTS / "apps")])
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, "PYTHONPATH": path, "MONLIGHT_KEY": KEY, **quiet, **urls, **more}


def run_script(script: str, *services: Service, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python program to its end; `errors_url`, `metrics_url` and `key` are there already."""
    head = "import os\nerrors_url = os.environ.get('MONLIGHT_TRACKER')\n"
    head += "metrics_url = os.environ.get('MONLIGHT_COLLECTOR')\nkey = os.environ['MONLIGHT_KEY']\n"
    return subprocess.run(
        [sys.executable, "-c", head + script],
        env=environment(*services, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        check=False,
    )


@contextmanager
def application(command: list[str], ready: str, *services: Service, **more: str) -> Iterator[Process]:
    """A server that runs one of `apps`, as `python -m` would start it."""
    process = Process([sys.executable, "-m", *command], environment(*services, **more), ready)
    try:
        yield process
    finally:
        if process.child.poll() is None:
            # Not killed: workers of gunicorn would outlive it for many seconds.
            process.end()


def address(process: Process) -> str:
    """Where an application says that it listens."""
    found = re.search(r"http://127\.0\.0\.1:\d+", process.ready_line)
    assert found, process.ready_line
    return found.group()


def visitor(base: str = "") -> httpx.Client:
    """Keeps no connections: uvicorn closes one after an exception, at any moment, and the next request would fail."""
    limits = httpx.Limits(max_keepalive_connections=0)
    headers = {"Connection": "close"}
    return httpx.Client(base_url=base, verify=False, limits=limits, headers=headers, timeout=PATIENCE_S)
