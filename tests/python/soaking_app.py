"""An application that reports and measures for as long as its standard input is open.

Started with the tracker's URL, the collector's, a key, a name for itself, and how often a second it raises; prints a line
when it has begun. In the end it sends what is left and prints one line of JSON: how much it has reported and measured.
With the repository's client on the path it uses that, and else the published one.
"""

import json
import logging
import random
import sys
import threading

from monlight import ErrorClient, MetricsClient

# What it raises is the tracker's to tell.
logging.disable()

errors_url, metrics_url, key, name, rate = sys.argv[1:]
errors = ErrorClient(errors_url, key, project=name)
metrics = MetricsClient(metrics_url, key, flush_interval=2.0, project=name)
over = threading.Event()


def end_with_stdin() -> None:
    sys.stdin.read()
    over.set()


def places() -> list:
    """Functions that raise, each at a line of its own: 50 groups."""
    source = "\n".join(f"def raise_{at}(cart): raise ValueError(f'cart {{cart}} is empty')" for at in range(50))
    names: dict = {}
    exec(compile(source, "/app/shop/cart.py", "exec"), names)  # noqa: S102 - these lines are our own
    return [names[f"raise_{at}"] for at in range(50)]


threading.Thread(target=end_with_stdin, daemon=True).start()
metrics.start()
print("begun", flush=True)
draw, raising, reported, orders = random.Random(name), places(), 0, 0
while not over.wait(1 / float(rate)):
    try:
        draw.choice(raising)(draw.randrange(1_000))
    except ValueError as error:
        errors.report_error_sync(error, {"user_id": f"u-{reported % 97}", "extra": {"cart": reported}})
        reported += 1
    for _ in range(5):
        metrics.counter("orders_total", labels={"shop": draw.choice(["east", "west"])})
        metrics.histogram("order_ms", draw.lognormvariate(3, 1), labels={"page": f"/item/{draw.randrange(20)}"})
        orders += 1
    metrics.gauge("queue_depth", draw.randrange(100))
metrics.shutdown()
# The published client has sent each report before it went on.
if hasattr(errors, "flush"):
    assert errors.flush(timeout=30.0), "the last reports are not taken"
dropped = getattr(errors, "dropped", 0) + getattr(metrics, "dropped", 0)
print(json.dumps({"reported": reported, "orders": orders, "dropped": dropped}), flush=True)
