"""Reports of exceptions that end a child process of multiprocessing, which prints them without calling any hook."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from monlight._safety import never_raise

# Attribute of a process object that carries the client's arguments to a child that does not inherit memory.
_SETUP_ATTRIBUTE = "_monlight_setup"


def report_failed_processes(
    module: ModuleType,
    report: Callable[[BaseException, dict[str, Any]], None],
    child_setup: Callable[[], tuple[Callable[..., object], tuple[Any, ...]] | None],
) -> None:
    """Patches the class of processes, so that an exception of a process is reported before multiprocessing prints it.

    Args:
        module: The module `multiprocessing.process`.
        report: Reports an exception with a request context.
        child_setup: Returns a function and its arguments, which a child calls that does not inherit this process's
            memory (the start methods `spawn` and `forkserver`).
    """
    process_class = module.BaseProcess
    original_start, original_bootstrap = process_class.start, process_class._bootstrap

    @functools.wraps(original_start)
    def start(process: Any) -> Any:
        _attach_setup(process, child_setup)
        return original_start(process)

    @functools.wraps(original_bootstrap)
    def bootstrap(process: Any, *args: Any, **kwargs: Any) -> Any:
        run = process.run

        def run_and_report() -> None:
            try:
                run()
            except BaseException as error:
                report(error, {"extra": {"process": process.name}})
                raise

        process.run = run_and_report
        return original_bootstrap(process, *args, **kwargs)

    process_class.start, process_class._bootstrap = start, bootstrap


@never_raise(None)
def _attach_setup(process: Any, child_setup: Callable[[], Any]) -> None:
    setattr(process, _SETUP_ATTRIBUTE, _Setup(child_setup))


class _Setup:
    """Value that runs a function in the process that unpickles it."""

    def __init__(self, child_setup: Callable[[], Any]) -> None:
        self._child_setup = child_setup

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return self._child_setup() or (str, ())
