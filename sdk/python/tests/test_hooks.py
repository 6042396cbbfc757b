"""`init`: uncaught exceptions are reported, and Python prints and exits as it does without this package."""

from __future__ import annotations

import pytest

from services import Tracker, run_script

INIT = """
import asyncio, gc, threading
import monlight
monlight.init(error_tracker_url=errors_url, api_key=key, project="shop", environment="tests", release="1.4.2")
"""

UNCAUGHT = {
    "main thread": ("raise ValueError('boom')", 1),
    "thread": (
        "def work(): raise ValueError('boom')\nt = threading.Thread(target=work, name='worker'); t.start(); t.join()",
        0,
    ),
    "asyncio task": (
        """
async def fail(): raise ValueError('boom')
async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
    gc.collect()
asyncio.run(main())
""",
        0,
    ),
    "uvloop callback": (
        """
import uvloop
def fail(): raise ValueError('boom')
async def main():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)
loop = uvloop.new_event_loop(); loop.run_until_complete(main()); loop.close()
""",
        0,
    ),
}


@pytest.mark.parametrize(("script", "exit_code"), UNCAUGHT.values(), ids=UNCAUGHT.keys())
def test_uncaught_exceptions_are_reported_once(script: str, exit_code: int, tracker: Tracker) -> None:
    result_without_init = run_script("import asyncio, gc, threading\n" + script)
    result = run_script(INIT + script, tracker)
    assert result.returncode == result_without_init.returncode == exit_code
    assert "ValueError: boom" in result.stderr
    assert result.stderr.count("Traceback") == result_without_init.stderr.count("Traceback")
    report = tracker.only_report()
    assert (report["exception_type"], report["message"], report["count"]) == ("ValueError", "boom", 1)
    assert (report["environment"], report["release"]) == ("tests", "1.4.2")


def test_report_contains_the_thread_name(tracker: Tracker) -> None:
    run_script(INIT + UNCAUGHT["thread"][0], tracker)
    assert tracker.only_report()["occurrences"][0]["extra"] == {"thread": "worker"}


@pytest.mark.parametrize(
    "work",
    [
        "asyncio.get_running_loop().call_soon(lambda: 1 / 0)",
        "asyncio.get_running_loop().call_exception_handler({'message': 'Unclosed session'})",
    ],
)
def test_error_of_asyncio_is_reported_once_beside_a_log_handler(work: str, tracker: Tracker) -> None:
    script = f"""
import logging
logging.getLogger().addHandler(monlight.MonlightHandler(monlight.ErrorClient(errors_url, key, project="shop")))
async def main():
    {work}
    await asyncio.sleep(0)
asyncio.run(main())
"""
    run_script(INIT + script, tracker)
    assert tracker.only_report()["count"] == 1


def test_previous_hooks_are_called(tracker: Tracker) -> None:
    script = """
import sys
sys.excepthook = lambda kind, error, traceback: print("previous:", error)
threading.excepthook = lambda args: print("previous:", args.exc_value)
"""
    script += INIT + UNCAUGHT["thread"][0] + "\nraise KeyError('main')"
    result = run_script("import threading" + script, tracker)
    assert result.stdout.splitlines() == ["previous: boom", "previous: 'main'"]
    assert tracker.count() == 2


def test_interrupts_and_exits_are_not_reported(tracker: Tracker) -> None:
    script = """
def leave(): raise SystemExit
thread = threading.Thread(target=leave); thread.start(); thread.join()
raise KeyboardInterrupt
"""
    run_script(INIT + script, tracker)
    assert tracker.groups() == []


def test_second_init_replaces_the_client_of_the_hooks(tracker: Tracker) -> None:
    run_script(INIT.replace("errors_url", "'http://127.0.0.1:1'") + INIT + "raise ValueError('boom')", tracker)
    assert tracker.count() == 1


def test_logged_and_then_uncaught_exception_is_reported_once(tracker: Tracker) -> None:
    script = """
import logging
clients = monlight.init(error_tracker_url=errors_url, api_key=key)
logging.getLogger().addHandler(monlight.MonlightHandler(clients["error_client"]))
try:
    raise ValueError("boom")
except ValueError:
    logging.exception("checkout failed")
    raise
"""
    run_script(INIT + script, tracker)
    assert tracker.count() == 1
