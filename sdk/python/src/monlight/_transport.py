"""One pooled connection to one service."""

from __future__ import annotations

import encodings.idna
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from time import time

import certifi
import httpcore
import httpx

from monlight._guard import sending
from monlight._pace import parse_retry_after
from monlight._version import __version__

# httpx imports these when it first needs them, which would be in a background thread. A process that is forked at that
# moment keeps the locks of such imports for ever.
_IMPORTED_AHEAD = (certifi, encodings.idna, httpcore)

# Shorter than the services' own 60 s, so that it is not they who close first.
KEEPALIVE_S = 15.0
DETAIL_CHARS_MAX = 200
# What will pass by itself: a restart, a full disk, a limit. A 500 may be about what was sent; see `_sender`.
LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


@dataclass
class Parcel:
    """What one request carries. Its key makes a retry count once, so its content never changes."""

    path: str
    items: Sequence[bytes]
    is_list: bool
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    times_500: int = 0

    def body(self) -> bytes:
        return b"[" + b",".join(self.items) + b"]" if self.is_list else self.items[0]

    def halves(self) -> list[Parcel]:
        middle = len(self.items) // 2
        return [Parcel(self.path, items, self.is_list) for items in (self.items[:middle], self.items[middle:])]


class Fate(Enum):
    DELIVERED = "delivered"
    REFUSED = "refused"
    LATER = "later"


@dataclass(frozen=True)
class Answer:
    """What became of a parcel; `status` is None where no answer came."""

    fate: Fate
    status: int | None
    reason: str
    retry_after_s: float | None = None


class Transport:
    """Posts parcels over a connection that is kept. Used by one thread at a time."""

    def __init__(self, base_url: str, api_key: str, timeout_s: float) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._client: httpx.Client | None = None

    def post(self, parcel: Parcel, within_s: float | None = None) -> Answer:
        """Sends a parcel; each step of it may take the timeout, or `within_s` seconds where that is less."""
        timeout_s = self._timeout_s if within_s is None else max(0.05, min(self._timeout_s, within_s))
        with sending():
            try:
                return self._judge(self._request(parcel, timeout_s))
            except httpx.TransportError as error:
                return Answer(Fate.LATER, None, f"{type(error).__name__}: {error}"[:DETAIL_CHARS_MAX])
            except Exception as error:
                # A URL or a key that cannot be sent: it will not get better.
                return Answer(Fate.REFUSED, None, f"{type(error).__name__}: {error}"[:DETAIL_CHARS_MAX])

    def _request(self, parcel: Parcel, timeout_s: float) -> httpx.Response:
        headers = {"X-API-Key": self._api_key, "Idempotency-Key": parcel.key, "Content-Type": "application/json"}
        client = self._connected()
        url, body = self._base_url + parcel.path, parcel.body()
        try:
            return client.post(url, content=body, headers=headers, timeout=timeout_s)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            # A kept connection that the other end has closed meanwhile.
            return client.post(url, content=body, headers=headers, timeout=timeout_s)

    def _connected(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(
                # Certificates are only loaded where they are needed; redirects are not followed.
                verify=not self._base_url.lower().startswith("http://"),
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S),
                headers={"User-Agent": f"monlight-python/{__version__}"},
            )
        return self._client

    @staticmethod
    def _judge(response: httpx.Response) -> Answer:
        status, reason = response.status_code, f"status {response.status_code}: {response.text[:DETAIL_CHARS_MAX]}"
        if response.is_success:
            return Answer(Fate.DELIVERED, status, reason)
        if status in LATER:
            wait_s = parse_retry_after(response.headers.get("Retry-After"), time())
            return Answer(Fate.LATER, status, reason, wait_s)
        return Answer(Fate.REFUSED, status, reason)

    def anew(self) -> Transport:
        """The same, without a connection."""
        return Transport(self._base_url, self._api_key, self._timeout_s)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with sending():
                client.close()
