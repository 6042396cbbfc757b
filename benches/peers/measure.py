"""Server processes, load clients and resource measurements, the same for Monlight and its peers."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "target" / "peers"
# Below the build directory: /tmp is often a memory file system, where a flush costs nothing.
SCRATCH = ROOT / "target" / "tmp" / "peers"
FIGURES = ROOT / "target" / "figures"
TIMEOUT_S = 60.0
CONNECTIONS = 4
QUERIES = 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class UnavailableError(Exception):
    """Raised when a peer is not installed on this machine."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def empty_folder(name: str) -> Path:
    """Creates an empty folder in the scratch directory; deletes a previous one."""
    path = SCRATCH / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def disk_bytes(path: Path) -> int:
    """Returns the number of bytes that a file or folder occupies on disk."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.stat().st_blocks * 512 for file in files if file.is_file() and not file.is_symlink())


def wait_until(condition: Callable[[], Any], description: str, timeout_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not true within {timeout_s:.0f} s: {description}")
        time.sleep(0.005)


def request(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def get_json(port: int, path: str, headers: Mapping[str, str] | None = None) -> Any:
    status, body = request(port, "GET", path, headers=headers)
    if status != 200:
        raise RuntimeError(f"GET {path}: {status} {body[:200]!r}")
    return json.loads(body)


class Server:
    """One or more commands that form a server. Its CPU time and memory are those of all their processes."""

    def __init__(
        self, commands: Sequence[Sequence[str]], cwd: Path, env: Mapping[str, str], port: int, ready: str
    ) -> None:
        self.port = port
        start = time.monotonic()
        self.log = (cwd / "log").open("ab")
        self.children = [
            # Each command runs in its own session, by which its descendants are found.
            subprocess.Popen(
                list(command),
                cwd=cwd,
                env={"PATH": os.environ["PATH"], **env},
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
            )
            for command in commands
        ]
        try:
            wait_until(lambda: self._is_ready(ready), f"{commands[0][0]} responds to {ready}")
        except BaseException:
            self.stop()
            raise
        self.start_ms = (time.monotonic() - start) * 1e3

    def _is_ready(self, path: str) -> bool:
        for child in self.children:
            if child.poll() is not None:
                raise RuntimeError(
                    f"{child.args!r} exited with {child.returncode}: {Path(self.log.name).read_text()[-500:]}"
                )
        try:
            return request(self.port, "GET", path)[0] == 200
        except OSError:
            return False

    def _processes(self) -> Iterator[Path]:
        sessions = {child.pid for child in self.children}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                if int(stat.rpartition(") ")[2].split()[3]) in sessions:
                    yield entry

    def cpu_s(self) -> float:
        """Returns the CPU time so far in seconds, including that of child processes that have exited."""
        total = 0.0
        for process in self._processes():
            fields = (process / "stat").read_text().rpartition(") ")[2].split()
            total += sum(int(field) for field in fields[11:15]) / TICKS_PER_S
        return total

    def mb(self) -> float:
        """Returns the memory in use in MB. Pages shared by several processes count once (PSS)."""
        total = 0
        for process in self._processes():
            match = re.search(r"^Pss: +(\d+)", (process / "smaps_rollup").read_text(), re.MULTILINE)
            total += int(match[1]) if match else 0
        return total * 1024 / 1e6

    def wait_until_idle(self) -> None:
        """Waits until the server uses less than 5 % of a CPU for a second."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(1)
            if self.cpu_s() - before <= 0.05:
                return

    def stop(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        self.log.close()


@contextmanager
def serving(
    commands: Sequence[Sequence[str]], cwd: Path, env: Mapping[str, str], port: int, ready: str
) -> Iterator[Server]:
    server = Server(commands, cwd, env, port, ready)
    try:
        yield server
    finally:
        server.stop()


def monlight(binary: str, folder: Path, settings: Mapping[str, str]) -> Any:
    """Starts a Monlight service with its default settings, but without a rate limit."""
    port = free_port()
    env = {"API_KEY": "k", "PORT": str(port), "LISTEN_ADDR": "127.0.0.1", "RATE_LIMIT": "0", **settings}
    return serving([[str(ROOT / binary)]], folder, env, port, "/health")


def _send(port: int, requests: Sequence[tuple[str, bytes, dict[str, str]]], barrier: Any, results: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    barrier.wait()
    start = time.monotonic()
    for path, body, headers in requests:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status >= 300:
            results.put(f"POST {path}: {response.status} {content[:200]!r}")
            return
    results.put((start, time.monotonic()))


def send_all(port: int, requests: Sequence[tuple[str, bytes, dict[str, str]]], connections: int = CONNECTIONS) -> float:
    """Sends POST requests over several connections, without pipelining. Returns the duration in seconds."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(connections), context.Queue()
    clients = [
        context.Process(target=_send, args=(port, requests[first::connections], barrier, results))
        for first in range(connections)
    ]
    for client in clients:
        client.start()
    spans: list[Any] = [results.get(timeout=TIMEOUT_S * 5) for _ in clients]
    for client in clients:
        client.join()
    for span in spans:
        if isinstance(span, str):
            raise RuntimeError(span)
    return float(max(end for _, end in spans) - min(start for start, _ in spans))


def latency_ms(port: int, path: str, headers: Mapping[str, str] | None = None, times: int = QUERIES) -> float:
    """Returns the median latency of a GET request in ms, over one connection if the server keeps it open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    latencies = []
    for _ in range(times):
        start = time.perf_counter()
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        body = response.read()
        latencies.append((time.perf_counter() - start) * 1e3)
        if response.status != 200:
            raise RuntimeError(f"GET {path}: {response.status} {body[:200]!r}")
    connection.close()
    return statistics.median(latencies)


def run_once(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, float, float, str]:
    """Runs a command. Returns its duration in s, CPU time including its children in s, peak MB, and output."""
    start = time.perf_counter()
    child = subprocess.Popen(
        list(command), env={"PATH": os.environ["PATH"], **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    peak, exited = [0.0], threading.Event()

    def poll_peak() -> None:
        # The peak that wait4 reports includes the memory of this program before the exec.
        while not exited.wait(0.002):
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                return
            match = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)
            peak[0] = max(peak[0], int(match[1]) * 1024 / 1e6 if match else 0)

    poller = threading.Thread(target=poll_peak)
    poller.start()
    assert child.stdout is not None
    with child.stdout as output:
        text = output.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    exited.set()
    poller.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    # grep exits with 1 if nothing matches.
    if child.returncode not in (0, 1):
        raise RuntimeError(f"{command!r} exited with {child.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, peak[0], text


def debian(program: str) -> tuple[Path, dict[str, str]]:
    """Returns the path of a Debian program that `make` has unpacked, and the environment that finds its libraries."""
    path = PEERS / "usr" / "bin" / program
    if not path.exists():
        raise UnavailableError(f"the Debian package of {program} is not unpacked in target/peers")
    return path, {"LD_LIBRARY_PATH": str(PEERS / "usr" / "lib" / "x86_64-linux-gnu")}
