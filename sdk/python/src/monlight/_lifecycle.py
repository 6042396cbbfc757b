"""Process lifecycle of all clients: fork handlers that prevent duplicate sends, and a final flush at exit."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from time import monotonic
from typing import Protocol

from monlight._safety import never_raise

# Maximum time, in seconds, that the final flush may delay the end of the process, for all clients together.
EXIT_TIMEOUT_S = 5.0
# Maximum time, in seconds, that a fork waits for a request in flight. Most requests take about a millisecond.
FORK_TIMEOUT_S = 0.2


class Client(Protocol):
    """Hooks that a client provides to this module. Deadlines are values of the monotonic clock."""

    def _flush_at_exit(self, deadline: float) -> None:
        """Sends pending data until the deadline."""

    def _pause_for_fork(self, deadline: float) -> None:
        """Waits until no request is in flight or the deadline has passed, then blocks other threads from sending."""

    def _resume_after_fork(self) -> None:
        """Releases what `_pause_for_fork` blocked."""

    def _reset_in_child(self) -> None:
        """Discards pending data in a forked child; the parent sends it."""


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_installed_hooks: set[str] = set()
_exiting = threading.Event()


def register_client(client: Client) -> None:
    """Registers a client to be flushed at process exit and reset in forked children. Holds a weak reference."""
    _clients.add(client)


@never_raise(None)
def flush_all_clients() -> None:
    """Sends the pending data of every client, within `EXIT_TIMEOUT_S` seconds for all clients together."""
    deadline = monotonic() + EXIT_TIMEOUT_S
    clients = list(_clients)
    for index, client in enumerate(clients):
        # Divide the remaining time, so that one unresponsive service does not use up the time of the others.
        client_timeout_s = (deadline - monotonic()) / (len(clients) - index)
        client._flush_at_exit(monotonic() + client_timeout_s)


def flush_if_exiting() -> None:
    """Sends what was recorded after the flush of `atexit`: the interpreter can no longer start a thread for it."""
    if _exiting.is_set():
        flush_all_clients()


def _flush_at_exit() -> None:
    flush_all_clients()
    _exiting.set()


@never_raise(None)
def register_exit_hooks() -> None:
    """Registers the final flush for process exits that do not run `atexit`. Called when a sender thread starts."""
    if "multiprocessing" not in _installed_hooks and "multiprocessing.util" in sys.modules:
        # A child forked by multiprocessing exits without running atexit, but runs its finalizers.
        sys.modules["multiprocessing.util"].Finalize(None, flush_all_clients, exitpriority=1)
        _installed_hooks.add("multiprocessing")
    if "celery" not in _installed_hooks and "celery.signals" in sys.modules:
        # A worker process of Celery's prefork pool also skips atexit, and runs only this signal.
        sys.modules["celery.signals"].worker_process_shutdown.connect(_on_celery_worker_shutdown, weak=False)
        _installed_hooks.add("celery")


def _on_celery_worker_shutdown(**_: object) -> None:
    flush_all_clients()


@never_raise(None)
def _before_fork() -> None:
    # A thread that is opening a connection may hold a lock of OpenSSL or the C library. In the child, that lock would
    # never be released, and the application's own connections would deadlock.
    deadline = monotonic() + FORK_TIMEOUT_S
    for client in list(_clients):
        client._pause_for_fork(deadline)


@never_raise(None)
def _after_fork_in_parent() -> None:
    for client in list(_clients):
        client._resume_after_fork()


@never_raise(None)
def _after_fork_in_child() -> None:
    _installed_hooks.clear()
    for client in list(_clients):
        client._reset_in_child()


atexit.register(_flush_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
