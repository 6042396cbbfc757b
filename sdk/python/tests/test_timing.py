from __future__ import annotations

import asyncio
import time

import pytest

from monlight import MetricsClient
from services import KEY, Collector


def test_blocks_functions_and_coroutines_are_measured(collector: Collector) -> None:
    metrics = MetricsClient(collector.url, KEY)

    @metrics.timer("work_seconds", labels={"how": "function"})
    def fibonacci(number: int) -> int:
        """Its own."""
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    @metrics.timer("work_seconds", labels={"how": "coroutine"})
    async def rest(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "rested"

    async def rest_together() -> list[str]:
        return list(await asyncio.gather(rest(0.02), rest(0.02), rest(0.02)))

    assert fibonacci(5) == 5
    assert (fibonacci.__name__, fibonacci.__doc__) == ("fibonacci", "Its own.")
    assert asyncio.run(rest_together()) == ["rested"] * 3
    block = metrics.timer("work_seconds", labels={"how": "block"})

    def fail() -> None:
        with block:
            with block:
                time.sleep(0.01)
            raise ValueError("of the application")

    with pytest.raises(ValueError, match="of the application"):
        fail()
    metrics.flush()
    assert collector.counts("work_seconds", "how") == {"function": 15, "coroutine": 3, "block": 2}
    (coroutine,) = collector.buckets("work_seconds", labels="how:coroutine")
    assert 0.02 <= coroutine["min"] <= coroutine["max"] < 1, "seconds, and each of them apart"
    (inner,) = collector.buckets("work_seconds", labels="how:block")
    assert 0.01 <= inner["min"] <= inner["max"] < 1
