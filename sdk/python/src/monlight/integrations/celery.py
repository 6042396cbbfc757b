"""Integration for Celery, which `monlight.init` and the other integrations connect when Celery is imported.

Celery catches the exceptions of tasks, and its workers remove the handlers of the root logger, so neither the hooks of
this package nor a `MonlightHandler` would see them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from monlight import _scope
from monlight._safety import never_raise
from monlight.error_client import ErrorClient

# Number of tasks that are remembered because the process that ran them was lost.
LOST_TASKS_MAX = 100


def report_failed_tasks(signals: ModuleType, errors: Callable[[], ErrorClient | None]) -> None:
    """Reports each failed task once, also one that exceeded its time limit or lost its worker.

    A retry is no failure, and neither is an exception that the task declares in `throws`. The user and tags that a task
    sets end with it.

    Args:
        signals: The module `celery.signals`.
        errors: Returns the client that sends the reports, or None.
    """

    # For a task that exceeds its time limit, the main process of a worker sends the signal twice, with two exceptions.
    lost_tasks: deque[str | None] = deque(maxlen=LOST_TASKS_MAX)

    @never_raise(None)
    def report(
        sender: Any = None, task_id: str | None = None, exception: BaseException | None = None, **_: object
    ) -> None:
        client = errors()
        if client is None or exception is None or isinstance(exception, tuple(getattr(sender, "throws", ()))):
            return
        if type(exception).__module__.partition(".")[0] == "billiard":
            if task_id in lost_tasks:
                return
            lost_tasks.append(task_id)
        task = {"task": getattr(sender, "name", None), "task_id": task_id}
        client._report_once(exception, "task", {"extra": task})

    @never_raise(None)
    def begin(**_: object) -> None:
        _scope.begin_unit_of_work()

    @never_raise(None)
    def end(**_: object) -> None:
        _scope.end_unit_of_work()

    signals.task_prerun.connect(begin, weak=False)
    signals.task_failure.connect(report, weak=False)
    signals.task_postrun.connect(end, weak=False)
