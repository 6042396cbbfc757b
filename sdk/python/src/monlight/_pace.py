"""When the next attempt may be made, after one that failed."""

from __future__ import annotations

import random
from datetime import timezone
from email.utils import parsedate_to_datetime

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
RETRY_AFTER_MIN_S = 0.1
# A longer wait that a service asks for is a mistake of somebody's clock.
RETRY_AFTER_MAX_S = 300.0


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait as `Retry-After` says, in either of its forms (RFC 9110, 10.2.3); `now` is seconds since 1970."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        wait_s = float(value[:10])
    else:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        wait_s = moment.timestamp() - now
    return min(max(wait_s, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)


class Pace:
    """Pauses that double from half a second to half a minute, or last as long as the service asks for."""

    def __init__(self) -> None:
        self._failures = 0
        self._ready_at = 0.0
        self.is_told = False
        """Whether the service itself has asked for the current pause."""

    def pause_s(self, now: float) -> float:
        """Seconds until the next attempt; `now` is monotonic."""
        return max(0.0, self._ready_at - now)

    def delivered(self) -> None:
        self._failures = 0
        self._ready_at = 0.0
        self.is_told = False

    def failed(self, now: float, retry_after_s: float | None) -> None:
        self.is_told = retry_after_s is not None
        if retry_after_s is None:
            doubled_s = min(BACKOFF_FIRST_S * 2.0 ** min(self._failures, 10), BACKOFF_MAX_S)
            # Workers that failed together should not come back together.
            retry_after_s = doubled_s * random.uniform(0.75, 1.0)
        self._failures += 1
        self._ready_at = now + retry_after_s
