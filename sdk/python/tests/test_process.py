"""Process exits and forks: everything that was recorded is delivered exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monlight import ErrorClient, _lifecycle, _sender
from scripted_server import ScriptedServer
from services import KEY, Collector, Tracker, run_script, running_application, wait_until

CLIENTS = """
from monlight import ErrorClient, MetricsClient
errors = ErrorClient(errors_url, key, project="shop")
metrics = MetricsClient(metrics_url, key, flush_interval=60, project="shop")
metrics.start()

def record(count):
    for number in range(count):
        metrics.counter("orders_total")
        metrics.histogram("order_ms", number)
        try:
            raise ValueError(number)
        except ValueError as error:
            errors.capture_exception(error)
"""

SCRIPTS = {
    "end of the script": ("record(30)", 30),
    "sys.exit": ("import sys; record(30); sys.exit(3)", 30),
    "exit with a message": ("record(30); raise SystemExit('no')", 30),
    "thread that outlives the main thread": (
        "import threading; threading.Thread(target=record, args=(30,)).start()",
        30,
    ),
    "os.fork": (
        "import sys; record(10); pid = os.fork(); record(10); pid and sys.exit(os.waitpid(pid, 0)[1])",
        30,
    ),
    "fork during a request": (
        "record(10); pids = [os.fork() for _ in range(2)]; record(10); pids[0] and pids[1] and [os.wait(), os.wait()]",
        10 + 4 * 10,
    ),
    "multiprocessing": (
        "import multiprocessing; context = multiprocessing.get_context('fork'); record(10)\n"
        "children = [context.Process(target=record, args=(10,)) for _ in range(4)]\n"
        "for child in children: child.start()\n"
        "for child in children: child.join()",
        50,
    ),
    "ProcessPoolExecutor": (
        "from concurrent.futures import ProcessPoolExecutor; import multiprocessing\n"
        "context = multiprocessing.get_context('fork'); record(10)\n"
        "with ProcessPoolExecutor(4, mp_context=context) as pool: list(pool.map(record, [10] * 8))",
        90,
    ),
}


@pytest.mark.parametrize(("script", "expected"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_pending_data_is_sent_at_exit(script: str, expected: int, tracker: Tracker, collector: Collector) -> None:
    result = run_script(CLIENTS + script, tracker, collector)
    # A child of os.fork may exit after the process that the test waited for.
    wait_until(lambda: collector.value_sum("orders_total") >= expected, f"{expected} counts {result.stderr}")
    wait_until(lambda: tracker.count() >= expected, f"{expected} reports {result.stderr}")
    assert collector.value_sum("orders_total") == expected
    assert collector.value_count("order_ms") == expected
    assert tracker.count() == expected


def test_data_of_celery_worker_processes_is_sent(tracker: Tracker, collector: Collector, tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    broker.mkdir()
    enqueue = "import celery_app\nfor number in range(40): celery_app.work.delay(number)"
    result = run_script(enqueue, tracker, collector, BROKER=str(broker))
    assert result.returncode == 0, result.stderr
    command = ["celery", "-A", "celery_app", "worker", "--concurrency", "4", "--loglevel", "INFO", "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat"]
    with running_application(command, "ready", tracker, collector, BROKER=str(broker)) as process:
        wait_until(lambda: "".join(process.output).count("succeeded in") == 40, "40 finished tasks")
        output = process.stop()
    assert collector.sums_by_label("tasks_total", "parity") == {"0": 20, "1": 20}, output
    assert tracker.count() == 40, output


def test_fork_waits_for_a_request_in_flight(start_server: Callable[..., ScriptedServer]) -> None:
    """A thread that opens a connection may hold locks of OpenSSL, which would stay locked in the child."""
    server = start_server()
    errors = ErrorClient(server.url, KEY)
    for response_delay_s, is_answered in ((0.05, True), (60.0, False)):
        server.pause_responses()
        errors.capture_exception(ValueError("boom"))
        wait_until(lambda: not server.requests[-1].is_answered if server.requests else None, "a request in flight")
        timer = threading.Timer(response_delay_s, server.resume_responses)
        timer.start()
        start = time.monotonic()
        _lifecycle._before_fork()
        assert server.requests[-1].is_answered == is_answered
        assert time.monotonic() - start < 2, "the fork waits for a short time only"
        _lifecycle._after_fork_in_parent()
        timer.cancel()
        server.resume_responses()
        assert errors.flush()


# Prints the duration of the exit handlers in seconds: the handler that is registered first runs last.
PRINT_EXIT_DURATION = """
import atexit, time
exit_started_at = []
atexit.register(lambda: print(time.monotonic() - exit_started_at[0]))
"""


def test_unreachable_services_do_not_delay_the_exit(tracker: Tracker, collector: Collector) -> None:
    tracker.kill()
    collector.kill()
    result = run_script(
        PRINT_EXIT_DURATION + CLIENTS + "record(30); exit_started_at.append(time.monotonic())", tracker, collector
    )
    assert float(result.stdout) < 2


def test_unresponsive_services_delay_the_exit_by_five_seconds() -> None:
    # The kernel accepts connections, but no process reads from them.
    unresponsive_service = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
errors_url = metrics_url = "http://127.0.0.1:%d" % listener.getsockname()[1]
"""
    result = run_script(
        PRINT_EXIT_DURATION + unresponsive_service + CLIENTS + "record(30); exit_started_at.append(time.monotonic())"
    )
    assert result.returncode == 0, result.stderr
    assert 4 < float(result.stdout) < 7


def test_idle_thread_ends_and_a_report_starts_a_new_one(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sender, "IDLE_TIMEOUT_S", 0.05)
    errors = ErrorClient(tracker.url, KEY)
    for count in range(1, 4):
        errors.capture_exception(ValueError("boom"))
        wait_until(lambda count=count: tracker.count() == count, "the report")  # type: ignore[misc]
        wait_until(lambda: not errors._sender.is_running, "the end of the thread")


def test_idle_thread_closes_the_connection_although_another_thread_flushes(
    start_server: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sender, "IDLE_TIMEOUT_S", 0.05)
    server = start_server()
    errors = ErrorClient(server.url, KEY)
    drain, lock = errors._sender.drain, errors._sender._drain_lock

    def drain_and_hold_lock(mode: _sender.FlushMode, deadline: float | None = None) -> bool:
        is_empty = drain(mode, deadline)
        lock.acquire()
        threading.Timer(0.05, lock.release).start()
        return is_empty

    monkeypatch.setattr(errors._sender, "drain", drain_and_hold_lock)
    errors.capture_exception(ValueError("boom"))
    wait_until(lambda: server.requests, "the report")
    wait_until(lambda: server.closed_connections == [server.requests[0].client], "a closed connection")


def test_package_prints_nothing_and_raises_no_warnings(tracker: Tracker, collector: Collector) -> None:
    script = "import logging; logging.basicConfig(level=logging.DEBUG)\n" + CLIENTS
    result = run_script(script + "record(30)", tracker, collector, PYTHONDEVMODE="1", PYTHONWARNINGS="error")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_sending_imports_no_modules(tracker: Tracker, collector: Collector) -> None:
    """A fork during an import in another thread would leave the import lock locked in the child."""
    script = "import sys; before = set(sys.modules); record(1); assert errors.flush(); metrics.flush()\n"
    result = run_script(CLIENTS + script + "print(sorted(set(sys.modules) - before))", tracker, collector)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_discarded_clients_leave_no_threads_or_files(tracker: Tracker) -> None:
    script = """
import threading, time
from monlight import ErrorClient, _lifecycle, _sender
_sender.IDLE_TIMEOUT_S = 0.05
for number in range(50):
    ErrorClient(errors_url, key).capture_exception(ValueError(number))
deadline = time.monotonic() + 10
while threading.active_count() > 1 and time.monotonic() < deadline:
    time.sleep(0.02)
print(threading.active_count(), len(os.listdir("/proc/self/fd")))
"""
    result = run_script(script, tracker)
    threads, files = map(int, result.stdout.split())
    assert threads == 1
    assert files < 20
    assert tracker.count() == 50
