"""What was measured and has not been sent: counters summed, gauges by the second, histograms as lists of values."""

from __future__ import annotations

import json
import math
import threading
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from time import time
from typing import Any, Literal, TypeAlias

from monlight._clean import INTEGER_MAX, clean_text
from monlight._guard import warn

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]
# What tells one series from another.
Series: TypeAlias = tuple[Kind, str, Labels]

# The collector's limits.
NAME_CHARS_MAX = 200
LABELS_MAX = 32
LABEL_CHARS_MAX = 200

# About a megabyte of histogram values, or twenty of counters with labels of their own.
POINTS_MAX = 100_000
# From here on a flush is due, however lately the last one was.
CROWDED_POINTS = POINTS_MAX // 2
# Spellings of series whose canonical form is remembered.
SPELLINGS_MAX = 10_000
# The collector's shortest bucket. What is summed within one is right in every answer.
SLOT_S = 60


@dataclass
class _Cell:
    """One series in one slot: a counter's sum or a gauge's last value as `number`, or a histogram's `values`."""

    at: float
    number: float = 0
    values: array[float] | None = None


class PendingPoints:
    """A bounded store that any thread may add to. When it is full the oldest minute goes, and where there is only one,
    what comes last."""

    def __init__(self, project: str | None) -> None:
        self._project = project
        self.lost = 0
        """How many points there was no room for."""
        self.forget()

    def forget(self) -> None:
        """Empties it, also where a fork has left the lock to a thread that does not exist here."""
        self._count = 0
        self._slots: dict[int, dict[Series, _Cell]] = {}
        self._spellings: dict[Any, Series] = {}
        self._incoming: deque[tuple[Kind, str, float, tuple[tuple[str, Any], ...], float]] = deque()
        self._lock = threading.RLock()
        self._is_folding = False

    def __len__(self) -> int:
        return self._count

    def add(self, kind: Kind, name: str, value: float, labels: Mapping[str, Any] | None) -> bool:
        """Whether it has just become crowded. Raises where a point is none: without a name, or not a finite number."""
        self._incoming.append((kind, name, value, tuple(labels.items()) if labels else (), time()))
        before = self._count
        self._fold()
        return before < CROWDED_POINTS <= self._count

    def _fold(self) -> None:
        # A signal handler or a finaliser may come in between and add a point on this very thread: it leaves the point
        # to the loop that it has interrupted.
        with self._lock:
            if self._is_folding:
                return
            self._is_folding = True
            try:
                while self._incoming:
                    self._fold_one(*self._incoming.popleft())
            finally:
                self._is_folding = False

    def _fold_one(self, kind: Kind, name: str, value: float, labels: tuple[tuple[str, Any], ...], at: float) -> None:
        number = value if type(value) is int and -INTEGER_MAX <= value <= INTEGER_MAX else float(value)
        if not math.isfinite(number):
            raise ValueError(f"the value of metric {name!r} is {number}")
        series = self._series(kind, name, labels)
        second = int(at)
        slot = self._slots.setdefault(second if kind == "gauge" else second - second % SLOT_S, {})
        cell = slot.get(series)
        if kind == "histogram" or cell is None:
            if self._count >= POINTS_MAX and not self._make_room(slot):
                self.lost += 1
                return
            self._count += 1
        if cell is None:
            cell = slot[series] = _Cell(at, values=array("d") if kind == "histogram" else None)
        cell.at = at
        if cell.values is not None:
            cell.values.append(number)
        elif kind == "counter":
            cell.number += number
        else:
            cell.number = number

    def _make_room(self, spare: dict[Series, _Cell]) -> bool:
        oldest = next(iter(self._slots))
        if self._slots[oldest] is spare:
            return False
        gone = sum(1 if cell.values is None else len(cell.values) for cell in self._slots.pop(oldest).values())
        self._count -= gone
        self.lost += gone
        return True

    def _series(self, kind: Kind, name: str, labels: tuple[tuple[str, Any], ...]) -> Series:
        spelling = (kind, name, labels)
        try:
            known = self._spellings.get(spelling)
        except TypeError:
            # A label that cannot be hashed.
            return _canonical(kind, name, labels)
        if known is None:
            known = _canonical(kind, name, labels)
            if len(self._spellings) >= SPELLINGS_MAX:
                self._spellings.clear()
            # 1, 1.0 and True are the same key, and not the same label.
            if all(type(value) is str for _, value in labels):
                self._spellings[spelling] = known
        return known

    def take(self, points_max: int, bytes_max: int) -> tuple[bytes, ...]:
        """Removes the oldest points, each as a JSON object: at most so many, and so many bytes in all."""
        self._fold()
        taken: list[bytes] = []
        with self._lock:
            self._is_folding = True
            try:
                self._take_into(taken, points_max, bytes_max)
            finally:
                self._is_folding = False
        return tuple(taken)

    def _take_into(self, taken: list[bytes], points_max: int, bytes_max: int) -> None:
        size = 0
        while self._slots:
            start, slot = next(iter(self._slots.items()))
            while slot:
                series, cell = next(iter(slot.items()))
                head, tail = self._encode(series, cell)
                numbers = [cell.number] if cell.values is None else cell.values
                while numbers:
                    point = f"{head}{numbers[-1]!r}{tail}".encode()
                    size += len(point) + 1
                    if taken and (len(taken) >= points_max or size > bytes_max):
                        return
                    # Finite numbers may have an infinite sum, which JSON cannot say.
                    if math.isfinite(numbers.pop()):
                        taken.append(point)
                    self._count -= 1
                del slot[series]
            del self._slots[start]

    def _encode(self, series: Series, cell: _Cell) -> tuple[str, str]:
        """What stands before and after the value."""
        kind, name, labels = series
        head = f'{{"name":{_text(name)},"type":"{kind}","value":'
        moment = datetime.fromtimestamp(int(cell.at), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        tail = f',"timestamp":"{moment}"'
        if labels:
            tail += f',"labels":{_text(dict(labels))}'
        if self._project:
            tail += f',"project":{_text(self._project)}'
        return head, tail + "}"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _canonical(kind: Kind, name: str, labels: tuple[tuple[str, Any], ...]) -> Series:
    """The series as the collector will see it: labels sorted, everything a text within its limits."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"a metric needs a name, and {name!r} is none")
    if len(labels) > LABELS_MAX:
        warn(f"Monlight leaves out labels of metric {name!r}: {len(labels)} are more than {LABELS_MAX}")
    kept = sorted((_label(key), _label(value)) for key, value in labels[:LABELS_MAX])
    return kind, clean_text(name, NAME_CHARS_MAX), tuple(kept)


def _label(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return clean_text(text, LABEL_CHARS_MAX)
