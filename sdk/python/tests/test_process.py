"""Ends and forks of processes: whatever was recorded arrives, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monlight import ErrorClient, _lifecycle, _sender
from scripted import ScriptedServer
from services import KEY, Collector, Tracker, application, run_script, wait_until

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
            errors.report_error_sync(error)
"""

ENDS = {
    "the end of the script": ("record(30)", 30),
    "sys.exit": ("import sys; record(30); sys.exit(3)", 30),
    "an uncaught exception": ("record(30); raise SystemExit('no')", 30),
    "a thread that outlives the main one": (
        "import threading; threading.Thread(target=record, args=(30,)).start()",
        30,
    ),
    "os.fork": (
        "import sys; record(10); pid = os.fork(); record(10); pid and sys.exit(os.waitpid(pid, 0)[1])",
        30,
    ),
    "a fork in the middle of sending": (
        "record(10); pids = [os.fork() for _ in range(2)]; record(10); pids[0] and pids[1] and [os.wait(), os.wait()]",
        10 + 4 * 10,
    ),
    "processes that multiprocessing forks": (
        "import multiprocessing; context = multiprocessing.get_context('fork'); record(10)\n"
        "children = [context.Process(target=record, args=(10,)) for _ in range(4)]\n"
        "for child in children: child.start()\n"
        "for child in children: child.join()",
        50,
    ),
    "a pool of processes": (
        "from concurrent.futures import ProcessPoolExecutor; import multiprocessing\n"
        "context = multiprocessing.get_context('fork'); record(10)\n"
        "with ProcessPoolExecutor(4, mp_context=context) as pool: list(pool.map(record, [10] * 8))",
        90,
    ),
}


@pytest.mark.parametrize(("script", "expected"), ENDS.values(), ids=ENDS.keys())
def test_nothing_is_left_behind(script: str, expected: int, tracker: Tracker, collector: Collector) -> None:
    ended = run_script(CLIENTS + script, tracker, collector)
    # A child of os.fork may outlive the process that was waited for.
    wait_until(lambda: collector.total("orders_total") >= expected, f"{expected} counts {ended.stderr}")
    wait_until(lambda: tracker.count() >= expected, f"{expected} reports {ended.stderr}")
    assert collector.total("orders_total") == expected
    assert collector.count("order_ms") == expected
    assert tracker.count() == expected


def test_tasks_in_the_forked_pool_of_celery_arrive(tracker: Tracker, collector: Collector, tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    broker.mkdir()
    feed = "import celery_app\nfor number in range(40): celery_app.work.delay(number)"
    fed = run_script(feed, tracker, collector, BROKER=str(broker))
    assert fed.returncode == 0, fed.stderr
    command = ["celery", "-A", "celery_app", "worker", "--concurrency", "4", "--loglevel", "INFO", "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat"]
    with application(command, "ready", tracker, collector, BROKER=str(broker)) as process:
        wait_until(lambda: "".join(process.output).count("succeeded in") == 40, "40 tasks are done")
        output = process.end()
    assert collector.totals("tasks_total", "parity") == {"0": 20, "1": 20}, output
    assert tracker.count() == 40, output


def test_a_fork_waits_for_a_request_that_is_on_its_way(scripted: Callable[..., ScriptedServer]) -> None:
    """A thread that is just connecting may hold locks of OpenSSL, which a child would find locked for ever."""
    server = scripted()
    errors = ErrorClient(server.url, KEY)
    for patience_s, is_answered in ((0.05, True), (60.0, False)):
        server.held.clear()
        errors.report_error_sync(ValueError("boom"))
        wait_until(lambda: not server.seen[-1].is_answered if server.seen else None, "the request is on its way")
        release = threading.Timer(patience_s, server.held.set)
        release.start()
        start = time.monotonic()
        _lifecycle._before_fork()
        assert server.seen[-1].is_answered == is_answered
        assert time.monotonic() - start < 2, "and not for long"
        _lifecycle._after_fork_in_parent()
        release.cancel()
        server.held.set()
        assert errors.flush()


# Says how long the end has taken: what is registered first runs last.
TIMED = """
import atexit, time
ends = []
atexit.register(lambda: print(time.monotonic() - ends[0]))
"""


def test_a_service_that_is_away_does_not_keep_a_process_from_ending(tracker: Tracker, collector: Collector) -> None:
    tracker.kill()
    collector.kill()
    ended = run_script(TIMED + CLIENTS + "record(30); ends.append(time.monotonic())", tracker, collector)
    assert float(ended.stdout) < 2


def test_services_that_never_answer_keep_a_process_for_five_seconds() -> None:
    # Connections are accepted by the kernel, and nobody answers.
    deaf = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
errors_url = metrics_url = "http://127.0.0.1:%d" % listener.getsockname()[1]
"""
    ended = run_script(TIMED + deaf + CLIENTS + "record(30); ends.append(time.monotonic())")
    assert ended.returncode == 0, ended.stderr
    assert 4 < float(ended.stdout) < 7


def test_the_thread_ends_when_there_is_nothing_to_do(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sender, "IDLE_S", 0.05)
    errors = ErrorClient(tracker.url, KEY)
    for count in range(1, 4):
        errors.report_error_sync(ValueError("now and then"))
        wait_until(lambda count=count: tracker.count() == count, "the report arrives")  # type: ignore[misc]
        wait_until(lambda: not errors._sender.is_running, "the thread ends")


def test_no_output_and_no_warning_of_its_own(tracker: Tracker, collector: Collector) -> None:
    script = "import logging; logging.basicConfig(level=logging.DEBUG)\n" + CLIENTS
    ended = run_script(script + "record(30)", tracker, collector, PYTHONDEVMODE="1", PYTHONWARNINGS="error")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_sending_imports_nothing(tracker: Tracker, collector: Collector) -> None:
    """A fork in the middle of an import in another thread would leave the child with a lock that nobody opens."""
    script = "import sys; before = set(sys.modules); record(1); assert errors.flush(); metrics.flush()\n"
    ended = run_script(CLIENTS + script + "print(sorted(set(sys.modules) - before))", tracker, collector)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_clients_that_are_thrown_away_leave_no_threads(tracker: Tracker) -> None:
    script = """
import threading, time
from monlight import ErrorClient, _lifecycle, _sender
_sender.IDLE_S = 0.05
for number in range(50):
    ErrorClient(errors_url, key).report_error_sync(ValueError(number))
deadline = time.monotonic() + 10
while threading.active_count() > 1 and time.monotonic() < deadline:
    time.sleep(0.02)
print(threading.active_count(), len(os.listdir("/proc/self/fd")))
"""
    ended = run_script(script, tracker)
    threads, files = map(int, ended.stdout.split())
    assert threads == 1
    assert files < 20
    assert tracker.count() == 50
