"""Celery application with a broker in the file system, whose tasks fail with the secrets of `planted`."""

import logging
import os
import signal
import time

from celery import Celery, Task

import atomic_broker
import monlight
import planted

clients = monlight.init(
    error_tracker_url=os.environ["MONLIGHT_TRACKER"],
    api_key=os.environ["MONLIGHT_KEY"],
    project="shop",
    include_locals=True,
)
assert clients["error_client"] is not None
logging.getLogger("planted").addHandler(monlight.MonlightHandler(clients["error_client"]))
app = Celery()
app.conf.update(atomic_broker.settings(os.environ["BROKER"]))


@app.task
def charge(headers: dict[str, str], body: str, token: str) -> None:
    planted.charge(None, headers, body.encode(), token)


@app.task(bind=True, autoretry_for=(KeyError,), max_retries=2, default_retry_delay=0)
def retry(task: Task) -> None:
    raise KeyError("cart")


@app.task(time_limit=1)
def hang() -> None:
    # billiard sends SIGTERM and, 0.1 s later, SIGKILL. Its handler of SIGTERM writes to the queue of results, so
    # SIGKILL can leave that queue locked, and then the whole pool hangs. The default action ends this process at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(60)
