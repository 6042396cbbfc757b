"""Celery application with a broker in the file system, for a worker with a pool of forked processes."""

import os

from celery import Celery

import atomic_broker
from monlight import ErrorClient, MetricsClient

metrics = MetricsClient(os.environ["MONLIGHT_COLLECTOR"], os.environ["MONLIGHT_KEY"], flush_interval=60, project="shop")
metrics.start()
errors = ErrorClient(os.environ["MONLIGHT_TRACKER"], os.environ["MONLIGHT_KEY"], project="shop")
app = Celery()
app.conf.update(atomic_broker.settings(os.environ["BROKER"]))


@app.task
def work(number: int) -> None:
    metrics.counter("tasks_total", labels={"parity": str(number % 2)})
    try:
        raise ValueError(f"task {number}")
    except ValueError as error:
        errors.capture_exception(error)
