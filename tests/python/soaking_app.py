"""Application for the soak test that sends reports and metrics until its standard input is closed.

Arguments: URL of the tracker, URL of the collector, API key, project name, reports per second. Prints a line after it
has started. Before it exits, it sends pending data and prints one line of JSON with the number of reports and values.
Uses the client of this repository if it is on PYTHONPATH, otherwise the published client.
"""

import json
import logging
import random
import sys
import threading

from monlight import ErrorClient, MetricsClient

# The tracker receives the exceptions; the output of the test does not need them.
logging.disable()

errors_url, metrics_url, key, project, reports_per_second = sys.argv[1:]
errors = ErrorClient(errors_url, key, project=project)
metrics = MetricsClient(metrics_url, key, flush_interval=2.0, project=project)
stop_event = threading.Event()


def stop_when_stdin_closes() -> None:
    sys.stdin.read()
    stop_event.set()


def create_raising_functions() -> list:
    """Returns 50 functions that raise, each on its own line, so that the reports form 50 groups."""
    source = "\n".join(f"def raise_{line}(cart): raise ValueError(f'cart {{cart}} is empty')" for line in range(50))
    names: dict = {}
    exec(compile(source, "/app/shop/cart.py", "exec"), names)
    return [names[f"raise_{line}"] for line in range(50)]


threading.Thread(target=stop_when_stdin_closes, daemon=True).start()
metrics.start()
print("begun", flush=True)
rng, raising_functions, reported, orders = random.Random(project), create_raising_functions(), 0, 0
while not stop_event.wait(1 / float(reports_per_second)):
    try:
        rng.choice(raising_functions)(rng.randrange(1_000))
    except ValueError as error:
        errors.report_error_sync(error, {"user_id": f"u-{reported % 97}", "extra": {"cart": reported}})
        reported += 1
    for _ in range(5):
        metrics.counter("orders_total", labels={"shop": rng.choice(["east", "west"])})
        metrics.histogram("order_ms", rng.lognormvariate(3, 1), labels={"page": f"/item/{rng.randrange(20)}"})
        orders += 1
    metrics.gauge("queue_depth", rng.randrange(100))
metrics.shutdown()
# The published client sends each report before `report_error_sync` returns, and has no `flush`.
if hasattr(errors, "flush"):
    assert errors.flush(timeout=30.0), "flush timed out"
dropped = getattr(errors, "dropped", 0) + getattr(metrics, "dropped", 0)
print(json.dumps({"reported": reported, "orders": orders, "dropped": dropped}), flush=True)
