"""Timer as a context manager and as a decorator of functions and coroutine functions."""

from __future__ import annotations

import asyncio
import time

import pytest

from monlight import MetricsClient
from services import KEY, Collector


def test_timer_measures_blocks_functions_and_coroutines(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY)

    @metrics.timer("work_seconds", labels={"kind": "function"})
    def fibonacci(number: int) -> int:
        """Returns a Fibonacci number."""
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    @metrics.timer("work_seconds", labels={"kind": "coroutine"})
    async def pause(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    async def pause_concurrently() -> list[str]:
        return list(await asyncio.gather(pause(0.02), pause(0.02), pause(0.02)))

    assert fibonacci(5) == 5
    assert (fibonacci.__name__, fibonacci.__doc__) == ("fibonacci", "Returns a Fibonacci number.")
    assert asyncio.run(pause_concurrently()) == ["done"] * 3
    block = metrics.timer("work_seconds", labels={"kind": "block"})

    def fail() -> None:
        with block:
            with block:
                time.sleep(0.01)
            raise ValueError("application error")

    with pytest.raises(ValueError, match="application error"):
        fail()
    metrics.flush()
    assert collector.counts_by_label("work_seconds", "kind") == {"function": 15, "coroutine": 3, "block": 2}
    (coroutine,) = collector.buckets("work_seconds", labels="kind:coroutine")
    assert 0.02 <= coroutine["min"] <= coroutine["max"] < 1, "values are in seconds, one per call"
    (inner,) = collector.buckets("work_seconds", labels="kind:block")
    assert 0.01 <= inner["min"] <= inner["max"] < 1
