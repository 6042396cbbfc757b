"""Forks and ends of processes: nothing is sent twice after the one, nothing is left behind at the other."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from time import monotonic
from typing import Protocol

from monlight._guard import harmless

# The longest that an application's end may take because of this package, in seconds.
EXIT_MAX_S = 5.0
# The longest that a fork waits for a request that is on its way, in seconds. Most take a thousandth of that.
FORK_WAIT_MAX_S = 0.2


class Client(Protocol):
    def _flush_last(self, deadline: float) -> None:
        """Sends what there is, until `deadline` on the monotonic clock."""

    def _hold_still(self, deadline: float) -> None:
        """Keeps other threads from sending, once they are between two requests or the deadline has come."""

    def _go_on(self) -> None:
        """Ends what `_hold_still` has begun."""

    def _forget(self) -> None:
        """In a new process: what is pending belongs to the parent, which sends it."""


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_hooked: set[str] = set()


def adopt(client: Client) -> None:
    """From now on the client is flushed when the process ends, and emptied in processes that are forked."""
    _clients.add(client)


@harmless(None)
def flush_all() -> None:
    """Sends what all clients of this process hold, within `EXIT_MAX_S` seconds in all."""
    deadline = monotonic() + EXIT_MAX_S
    clients = list(_clients)
    for index, client in enumerate(clients):
        # A service that does not answer must not use up the time of the others.
        share_s = (deadline - monotonic()) / (len(clients) - index)
        client._flush_last(monotonic() + share_s)


@harmless(None)
def expect_end() -> None:
    """Sees to ends that `atexit` does not see. Called when a process begins to have something to send."""
    if "multiprocessing" not in _hooked and "multiprocessing.util" in sys.modules:
        # A forked child of multiprocessing ends without atexit, but runs its finalizers.
        sys.modules["multiprocessing.util"].Finalize(None, flush_all, exitpriority=1)
        _hooked.add("multiprocessing")
    if "celery" not in _hooked and "celery.signals" in sys.modules:
        # So does a worker of Celery's pool, which runs nothing but this signal.
        sys.modules["celery.signals"].worker_process_shutdown.connect(_at_celery_end, weak=False)
        _hooked.add("celery")


def _at_celery_end(**_: object) -> None:
    flush_all()


@harmless(None)
def _before_fork() -> None:
    # A thread that is just connecting may hold a lock of OpenSSL or of the C library. In the child nobody would ever
    # open it, and the application's own connections would hang there.
    deadline = monotonic() + FORK_WAIT_MAX_S
    for client in list(_clients):
        client._hold_still(deadline)


@harmless(None)
def _after_fork_in_parent() -> None:
    for client in list(_clients):
        client._go_on()


@harmless(None)
def _after_fork_in_child() -> None:
    _hooked.clear()
    for client in list(_clients):
        client._forget()


atexit.register(flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
