"""`init`: what nobody catches is reported, and Python goes on to say what it always says."""

from __future__ import annotations

import pytest

from services import Tracker, run_script

INIT = """
import asyncio, gc, threading
import monlight
monlight.init(error_tracker_url=errors_url, api_key=key, project="shop", environment="tests", release="1.4.2")
"""

UNCAUGHT = {
    "in the main thread": ("raise ValueError('boom')", 1),
    "in a thread": (
        "def work(): raise ValueError('boom')\nt = threading.Thread(target=work, name='worker'); t.start(); t.join()",
        0,
    ),
    "in a task": (
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
    "in a callback of uvloop": (
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


@pytest.mark.parametrize(("script", "code"), UNCAUGHT.values(), ids=UNCAUGHT.keys())
def test_what_nobody_catches_is_reported_once(script: str, code: int, tracker: Tracker) -> None:
    plain = run_script("import asyncio, gc, threading\n" + script)
    ended = run_script(INIT + script, tracker)
    assert ended.returncode == plain.returncode == code
    assert "ValueError: boom" in ended.stderr
    assert ended.stderr.count("Traceback") == plain.stderr.count("Traceback")
    report = tracker.only_report()
    assert (report["exception_type"], report["message"], report["count"]) == ("ValueError", "boom", 1)
    assert (report["environment"], report["release"]) == ("tests", "1.4.2")


def test_a_thread_is_named(tracker: Tracker) -> None:
    run_script(INIT + UNCAUGHT["in a thread"][0], tracker)
    assert tracker.only_report()["occurrences"][0]["extra"] == {"thread": "worker"}


def test_hooks_that_were_there_are_called(tracker: Tracker) -> None:
    script = """
import sys
sys.excepthook = lambda kind, error, traceback: print("theirs:", error)
threading.excepthook = lambda args: print("theirs:", args.exc_value)
"""
    script += INIT + UNCAUGHT["in a thread"][0] + "\nraise KeyError('main')"
    ended = run_script("import threading" + script, tracker)
    assert ended.stdout.splitlines() == ["theirs: boom", "theirs: 'main'"]
    assert tracker.count() == 2


def test_what_is_no_error_is_not_reported(tracker: Tracker) -> None:
    script = """
def leave(): raise SystemExit
thread = threading.Thread(target=leave); thread.start(); thread.join()
raise KeyboardInterrupt
"""
    run_script(INIT + script, tracker)
    assert tracker.groups() == []


def test_a_second_init_redirects_the_hooks(tracker: Tracker) -> None:
    run_script(INIT.replace("errors_url", "'http://127.0.0.1:1'") + INIT + "raise ValueError('boom')", tracker)
    assert tracker.count() == 1


def test_what_is_logged_and_then_uncaught_counts_once(tracker: Tracker) -> None:
    script = """
import logging
clients = monlight.init(error_tracker_url=errors_url, api_key=key)
logging.getLogger().addHandler(monlight.MonlightHandler(clients["error_client"]))
try:
    raise ValueError("boom")
except ValueError:
    logging.exception("it went wrong")
    raise
"""
    run_script(INIT + script, tracker)
    assert tracker.count() == 1
