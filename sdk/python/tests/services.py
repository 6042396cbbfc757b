"""Test helpers: real services, applications in separate processes, and waiting with a timeout."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

import httpx

KEY = "test-api-key"
TIMEOUT_S = 20.0
TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src"
BINARIES = Path(os.environ.get("MONLIGHT_BIN_DIR") or TESTS.parents[2])

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], description: str) -> T:
    """Polls `condition` until it returns a true value, and returns that value. Fails after `TIMEOUT_S` seconds."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"timeout while waiting for: {description}"
        time.sleep(0.02)


class Process:
    """Child process whose output is captured. The constructor returns when the process has printed `ready_text`.

    The process leads a process group, so that its own children can be killed with it.
    """

    def __init__(self, command: list[str], environment: dict[str, str], ready_text: str) -> None:
        self.child = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=TESTS / "apps",
            start_new_session=True,
        )
        self.output: list[str] = []
        self._lines: Queue[str | None] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.ready_line = self._wait_for_line(ready_text)
        except AssertionError:
            self.kill()
            raise

    def _read(self) -> None:
        assert self.child.stdout is not None
        with self.child.stdout as stdout:
            for line in stdout:
                self.output.append(line)
                self._lines.put(line)
        self._lines.put(None)

    def _wait_for_line(self, text: str) -> str:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                line = None
            assert line is not None, f"{text!r} was not printed; output: {''.join(self.output)}"
            if text in line:
                return line

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Sends a signal, waits until the process has exited, and returns its complete output.

        Fails with the output if the process has not exited after `TIMEOUT_S` seconds, and kills it.
        """
        self.child.send_signal(number)
        try:
            self.child.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"process did not exit after {number.name}; output: {''.join(self.output)}") from None
        self._reader.join(TIMEOUT_S)
        return "".join(self.output)

    def kill(self) -> None:
        """Kills the process and the other processes of its group, such as the workers of a server."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        self._reader.join(TIMEOUT_S)


class Service:
    """A real service with its own database. It can be killed and started again on the same port."""

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
        # Does not load CA certificates, because that takes longer than the request.
        with httpx.Client(verify=False, timeout=TIMEOUT_S) as client:
            response = client.get(self.url + path, params=query, headers={"X-API-Key": KEY})
        assert response.status_code == 200, response.text
        return response.json()


class Tracker(Service):
    def groups(self, **query: str) -> list[dict[str, Any]]:
        return list(self.get("/api/errors", resolved="all", limit="200", **query)["errors"])

    def details(self, **query: str) -> list[dict[str, Any]]:
        return [self.get(f"/api/errors/{group['id']}") for group in self.groups(**query)]

    def only_report(self) -> dict[str, Any]:
        """Waits for the first group and returns its detail; fails if there are several."""
        wait_until(self.groups, "a report")
        (detail,) = self.details()
        return detail

    def count(self) -> int:
        return sum(group["count"] for group in self.groups())


class Collector(Service):
    def buckets(self, name: str, **query: str) -> list[dict[str, Any]]:
        return list(self.get("/api/metrics", name=name, period="1h", **query)["data"])

    def value_sum(self, name: str, **query: str) -> float:
        return float(sum(bucket["sum"] for bucket in self.buckets(name, **query)))

    def value_count(self, name: str, **query: str) -> int:
        return sum(bucket["count"] for bucket in self.buckets(name, **query))

    def sums_by_label(self, name: str, label: str) -> dict[str, float]:
        """Returns the sum of a metric's values for each value of a label."""
        groups = self.get("/api/metrics", name=name, period="1h", group_by=label)["groups"]
        return {group["value"]: sum(bucket["sum"] for bucket in group["data"]) for group in groups}

    def counts_by_label(self, name: str, label: str) -> dict[str, int]:
        """Returns the number of a metric's values for each value of a label."""
        groups = self.get("/api/metrics", name=name, period="1h", group_by=label)["groups"]
        return {group["value"]: sum(bucket["count"] for bucket in group["data"]) for group in groups}


def child_environment(*services: Service, **variables: str) -> dict[str, str]:
    """Returns the environment of a process that imports this package, with the URLs of the services."""
    urls = {f"MONLIGHT_{type(service).__name__.upper()}": service.url for service in services}
    path = os.pathsep.join([str(SOURCES), str(TESTS / "apps")])
    python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
    return {**os.environ, "MONLIGHT_KEY": KEY, **python, **urls, **variables}


def run_script(script: str, *services: Service, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python script until it exits. Defines `errors_url`, `metrics_url` and `key` before the script."""
    preamble = "import os\nerrors_url = os.environ.get('MONLIGHT_TRACKER')\n"
    preamble += "metrics_url = os.environ.get('MONLIGHT_COLLECTOR')\nkey = os.environ['MONLIGHT_KEY']\n"
    return subprocess.run(
        [sys.executable, "-c", preamble + script],
        env=child_environment(*services, **variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S * 2,
        check=False,
    )


@contextmanager
def running_application(command: list[str], ready_text: str, *services: Service, **variables: str) -> Iterator[Process]:
    """Starts a server with one of the applications in `apps`, with `python -m`, and kills it after the block."""
    process = Process([sys.executable, "-m", *command], child_environment(*services, **variables), ready_text)
    try:
        yield process
    finally:
        process.kill()


def base_url(process: Process) -> str:
    """Returns the base URL that an application printed when it started."""
    match = re.search(r"http://127\.0\.0\.1:\d+", process.ready_line)
    assert match, process.ready_line
    return match.group()


def http_client(base_url: str = "") -> httpx.Client:
    """Returns a client without persistent connections.

    After an exception, uvicorn closes the connection after an unpredictable delay, and the next request on it would
    fail.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    headers = {"Connection": "close"}
    return httpx.Client(base_url=base_url, verify=False, limits=limits, headers=headers, timeout=TIMEOUT_S)
