"""Timer that records durations in a histogram."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from monlight.metrics_client import MetricsClient

F = TypeVar("F", bound=Callable[..., Any])


class Timer:
    """Context manager and decorator that records durations in seconds; created by `MetricsClient.timer`.

    As a context manager, one timer may be nested, but must not be used by several threads or tasks at the same time. A
    decorated function has no such restriction.
    """

    def __init__(self, metrics: MetricsClient, name: str, labels: Mapping[str, str] | None) -> None:
        self._metrics = metrics
        self._name = name
        self._labels = labels
        self._starts: list[float] = []

    def __enter__(self) -> Timer:
        self._starts.append(perf_counter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._starts:
            self._observe(self._starts.pop())

    def __call__(self, function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_coroutine(*args: Any, **kwargs: Any) -> Any:
                start = perf_counter()
                try:
                    return await function(*args, **kwargs)
                finally:
                    self._observe(start)

            return cast(F, measured_coroutine)

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._observe(start)

        return cast(F, measured)

    def _observe(self, start: float) -> None:
        """Records the time since `start`, a value of `perf_counter`."""
        self._metrics.histogram(self._name, perf_counter() - start, labels=self._labels)
