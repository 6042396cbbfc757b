"""Servers in processes of their own, load on them, and what they use: alike for ours and for peers."""

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
# Beside the build and not in /tmp, which is often memory.
SCRATCH = ROOT / "target" / "tmp" / "peers"
FIGURES = ROOT / "target" / "figures"
PATIENCE_S = 60.0
CONNECTIONS = 4
QUERIES = 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class UnavailableError(Exception):
    """A peer is not installed here."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def folder(name: str) -> Path:
    """An empty folder of this name."""
    path = SCRATCH / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def disk_bytes(path: Path) -> int:
    """Bytes of the disk that a file or folder takes."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.stat().st_blocks * 512 for file in files if file.is_file() and not file.is_symlink())


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"never happened: {what}")
        time.sleep(0.005)


def request(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def get_json(port: int, path: str, headers: Mapping[str, str] | None = None) -> Any:
    status, body = request(port, "GET", path, headers=headers)
    if status != 200:
        raise RuntimeError(f"GET {path}: {status} {body[:200]!r}")
    return json.loads(body)


class Server:
    """One or more commands that serve together. What they use is that of all their processes."""

    def __init__(
        self, commands: Sequence[Sequence[str]], cwd: Path, env: Mapping[str, str], port: int, ready: str
    ) -> None:
        self.port = port
        began = time.monotonic()
        self.log = (cwd / "log").open("ab")
        self.children = [
            # A session of its own tells its processes from all others.
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
            wait_until(lambda: self._answers(ready), f"{commands[0][0]} answers {ready}")
        except BaseException:
            self.stop()
            raise
        self.start_ms = (time.monotonic() - began) * 1e3

    def _answers(self, path: str) -> bool:
        for child in self.children:
            if child.poll() is not None:
                raise RuntimeError(f"{child.args!r} ended: {Path(self.log.name).read_text()[-500:]}")
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
        """CPU time so far, with that of processes that have ended."""
        total = 0.0
        for process in self._processes():
            fields = (process / "stat").read_text().rpartition(") ")[2].split()
            total += sum(int(field) for field in fields[11:15]) / TICKS_PER_S
        return total

    def mb(self) -> float:
        """Memory now. What several processes share counts once."""
        total = 0
        for process in self._processes():
            found = re.search(r"^Pss: +(\d+)", (process / "smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) if found else 0
        return total * 1024 / 1e6

    def settled(self) -> None:
        """Waits until it has nothing left to do: under a twentieth of a CPU for a second."""
        deadline = time.monotonic() + PATIENCE_S
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


def ours(binary: str, place: Path, settings: Mapping[str, str]) -> Any:
    """A service of ours, with its defaults but for limits of rate."""
    port = free_port()
    env = {"API_KEY": "k", "PORT": str(port), "LISTEN_ADDR": "127.0.0.1", "RATE_LIMIT": "0", **settings}
    return serving([[str(ROOT / binary)]], place, env, port, "/health")


def _send(port: int, share: Sequence[tuple[str, bytes, dict[str, str]]], begin: Any, results: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    begin.wait()
    began = time.monotonic()
    for path, body, headers in share:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            results.put(f"POST {path}: {answer.status} {said[:200]!r}")
            return
    results.put((began, time.monotonic()))


def send_all(port: int, requests: Sequence[tuple[str, bytes, dict[str, str]]], connections: int = CONNECTIONS) -> float:
    """Sends POST requests over some connections, each waiting for its answers; how many seconds it took."""
    context = multiprocessing.get_context("fork")
    begin, results = context.Barrier(connections), context.Queue()
    clients = [
        context.Process(target=_send, args=(port, requests[first::connections], begin, results))
        for first in range(connections)
    ]
    for client in clients:
        client.start()
    spans: list[Any] = [results.get(timeout=PATIENCE_S * 5) for _ in clients]
    for client in clients:
        client.join()
    for span in spans:
        if isinstance(span, str):
            raise RuntimeError(span)
    return float(max(end for _, end in spans) - min(began for began, _ in spans))


def latency_ms(port: int, path: str, headers: Mapping[str, str] | None = None, times: int = QUERIES) -> float:
    """The median time of a question, asked over and over on one connection where the server keeps it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        body = answer.read()
        taken.append((time.perf_counter() - began) * 1e3)
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {body[:200]!r}")
    connection.close()
    return statistics.median(taken)


def run_once(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, float, float, str]:
    """A command that ends: seconds, CPU seconds with those of its children, MB at its own peak, and what it printed."""
    began = time.perf_counter()
    child = subprocess.Popen(
        list(command), env={"PATH": os.environ["PATH"], **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        # What the kernel says of a child that has ended has the peak of this program in it, from before the exec.
        while not over.wait(0.002):
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                return
            found = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)
            peak[0] = max(peak[0], int(found[1]) * 1024 / 1e6 if found else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert child.stdout is not None
    with child.stdout as output:
        text = output.read().decode()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    # Of grep 1 means that there was nothing.
    if child.returncode not in (0, 1):
        raise RuntimeError(f"{command!r} ended with {child.returncode}")
    return seconds, used.ru_utime + used.ru_stime, peak[0], text


def debian(program: str) -> tuple[Path, dict[str, str]]:
    """A program of Debian's that `make` has unpacked, with the environment that finds its libraries."""
    path = PEERS / "usr" / "bin" / program
    if not path.exists():
        raise UnavailableError(f"{program} could not be unpacked here")
    return path, {"LD_LIBRARY_PATH": str(PEERS / "usr" / "lib" / "x86_64-linux-gnu")}
