"""`init`: uncaught exceptions are reported, and Python prints and exits as it does without this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services import KEY, TIMEOUT_S, Tracker, child_environment, run_script

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
    "finalizer": (
        "class Cart:\n    def __del__(self): raise ValueError('boom')\nCart()",
        0,
    ),
    "callback at exit": (
        "import atexit\ndef fail(): raise ValueError('boom')\natexit.register(fail)",
        0,
    ),
    **{
        f"process started with {method}": (
            f"import multiprocessing\nprocess = multiprocessing.get_context({method!r}).Process(target=exec, "
            "args=(\"raise ValueError('boom')\",)); process.start(); process.join()",
            0,
        )
        for method in ("fork", "spawn", "forkserver")
    },
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


def test_report_of_a_process_contains_its_name_and_settings(tracker: Tracker) -> None:
    script, _ = UNCAUGHT["process started with spawn"]
    run_script(INIT + script.replace("Process(", "Process(name='worker', "), tracker)
    report = tracker.only_report()
    assert report["occurrences"][0]["extra"] == {"process": "worker"}
    assert (report["project"], report["environment"], report["release"]) == ("shop", "tests", "1.4.2")


def test_process_whose_main_module_calls_init_reports_once(tracker: Tracker, tmp_path: Path) -> None:
    script = f"""
import multiprocessing, os
import monlight
monlight.init(error_tracker_url={tracker.url!r}, api_key={KEY!r})

class Worker(multiprocessing.Process):
    def run(self):
        raise ValueError("boom")

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    worker = Worker()
    worker.start()
    worker.join()
"""
    path = tmp_path / "main.py"
    path.write_text(script)
    subprocess.run([sys.executable, path], env=child_environment(), timeout=TIMEOUT_S, check=True, capture_output=True)
    assert tracker.only_report()["count"] == 1


def test_callback_registered_before_the_import_is_reported(tracker: Tracker) -> None:
    run_script(UNCAUGHT["callback at exit"][0] + INIT, tracker)
    assert tracker.only_report()["count"] == 1


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


CELERY = "from celery import Celery\napp = Celery(broker='memory://', set_as_current=False)\n"
FAILING_TASKS = """
class Expected(Exception):
    pass

@app.task(bind=True, name="pay", throws=(Expected,))
def pay(task, kind):
    if kind == "retry":
        raise task.retry(exc=ValueError("boom"), max_retries=2, countdown=0)
    raise Expected() if kind == "expected" else ValueError("boom")

for kind in ("retry", "expected", "fail"):
    pay.apply(args=[kind], task_id=kind)
"""


@pytest.mark.parametrize("script", [INIT + CELERY, CELERY + INIT], ids=["init first", "celery first"])
def test_failed_celery_tasks_are_reported_once(script: str, tracker: Tracker) -> None:
    result = run_script(script + FAILING_TASKS, tracker)
    assert result.returncode == 0, result.stderr
    reports = tracker.details()
    assert [(report["exception_type"], report["count"]) for report in reports] == [("ValueError", 1)] * 2
    extra = [report["occurrences"][0]["extra"] for report in reports]
    assert sorted(extra, key=str) == [{"task": "pay", "task_id": "fail"}, {"task": "pay", "task_id": "retry"}]


def test_failed_management_command_is_reported(tracker: Tracker) -> None:
    script = """
import django
from django.conf import settings
from django.core.management.base import BaseCommand
settings.configure(
    INSTALLED_APPS=["monlight.integrations.django.MonlightConfig"],
    MONLIGHT={"error_tracker_url": errors_url, "api_key": key},
)
django.setup()

class Command(BaseCommand):
    def handle(self, **options):
        raise ValueError("boom")

Command().run_from_argv(["manage.py", "pay"])
"""
    result = run_script(script, tracker)
    assert result.stderr.endswith("ValueError: boom\n")
    assert tracker.only_report()["count"] == 1


def test_hooks_import_neither_celery_nor_multiprocessing(tracker: Tracker) -> None:
    script = "import sys\nprint(sorted({'celery', 'multiprocessing', 'django'} & set(sys.modules)))\n"
    assert run_script(INIT + script, tracker).stdout == "[]\n"
    script = "import multiprocessing.process as module, inspect\nprint('BaseProcess' in inspect.getsource(module))"
    assert run_script(INIT + script, tracker).stdout == "True\n"


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
