"""Retry delays after failed requests: exponential backoff with jitter, and the `Retry-After` header."""

from __future__ import annotations

import random
from datetime import timezone
from email.utils import parsedate_to_datetime

BACKOFF_INITIAL_S = 0.5
BACKOFF_MAX_S = 30.0
RETRY_AFTER_MIN_S = 0.1
# A service that requests a longer delay most likely has a wrong clock.
RETRY_AFTER_MAX_S = 300.0


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Parses a `Retry-After` header in either of its forms, seconds or an HTTP date (RFC 9110, section 10.2.3).

    Args:
        value: Value of the header; None if it is missing.
        now: Current time in seconds since 1970.

    Returns:
        The delay in seconds, from `RETRY_AFTER_MIN_S` to `RETRY_AFTER_MAX_S`; None if missing or invalid.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        delay_s = float(value[:10])
    else:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        delay_s = date.timestamp() - now
    return min(max(delay_s, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)


class Backoff:
    """Delay before the next attempt: doubles from 0.5 to 30 seconds, unless the service requests a delay."""

    def __init__(self) -> None:
        self._failures = 0
        self._ready_at = 0.0
        self.server_requested_delay = False
        """Whether the service requested the current delay with `Retry-After`."""

    def delay_s(self, now: float) -> float:
        """Returns the seconds until the next attempt; `now` is a value of the monotonic clock."""
        return max(0.0, self._ready_at - now)

    def reset(self) -> None:
        """Clears the delay after a successful request."""
        self._failures = 0
        self._ready_at = 0.0
        self.server_requested_delay = False

    def record_failure(self, now: float, retry_after_s: float | None) -> None:
        """Sets the delay after a failed request; `retry_after_s` is the delay that the service requested, if any."""
        self.server_requested_delay = retry_after_s is not None
        if retry_after_s is None:
            backoff_s = min(BACKOFF_INITIAL_S * 2.0 ** min(self._failures, 10), BACKOFF_MAX_S)
            # Jitter, so that workers that failed together do not retry together.
            retry_after_s = backoff_s * random.uniform(0.75, 1.0)
        self._failures += 1
        self._ready_at = now + retry_after_s
