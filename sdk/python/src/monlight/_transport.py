"""HTTP transport to one service over one persistent connection."""

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

from monlight._backoff import parse_retry_after
from monlight._safety import sending_request
from monlight._scrub import scrub_url
from monlight._version import __version__

# httpx imports these modules on first use, which would be in the background thread. A process forked during such an
# import would inherit a held import lock and deadlock.
_PRELOADED_MODULES = (certifi, encodings.idna, httpcore)

# Shorter than the 60 s of the services, so that the client closes idle connections first.
KEEPALIVE_S = 15.0
REASON_CHARS_MAX = 200
EXCERPT_BYTES_MAX = 300
# Temporary failures: restart, full disk, rate limit. Status 500 may be caused by the payload; see `SERVER_ERRORS_MAX`.
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


@dataclass
class Payload:
    """Content of one request. The service counts repeated requests with the same idempotency key once, so the content
    must not change between retries."""

    path: str
    items: Sequence[bytes]
    is_list: bool
    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex)
    server_errors: int = 0
    """Number of attempts answered with status 500."""

    def body(self) -> bytes:
        """Returns the JSON body: a list of all items, or the single item."""
        return b"[" + b",".join(self.items) + b"]" if self.is_list else self.items[0]

    def excerpt(self) -> str:
        """Returns the beginning of the body, for debug messages."""
        return self.body()[:EXCERPT_BYTES_MAX].decode("utf-8", "replace")

    def split(self) -> list[Payload]:
        """Returns two payloads with half of the items each, and new idempotency keys."""
        middle = len(self.items) // 2
        return [Payload(self.path, items, self.is_list) for items in (self.items[:middle], self.items[middle:])]


class Outcome(Enum):
    """Outcome of one attempt to deliver a payload."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    RETRY = "retry"


@dataclass(frozen=True)
class DeliveryResult:
    """Result of one attempt; `status` is None if no response arrived."""

    outcome: Outcome
    status: int | None
    reason: str
    retry_after_s: float | None = None


class Transport:
    """Client for `POST` requests over a persistent connection. Not thread-safe."""

    def __init__(self, base_url: str, api_key: str, timeout_s: float) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._client: httpx.Client | None = None

    def post(self, payload: Payload, timeout_s: float | None = None) -> DeliveryResult:
        """Sends a payload.

        Args:
            payload: Content to send.
            timeout_s: Maximum seconds for each step of the request, if shorter than the timeout of this transport.
        """
        step_timeout_s = self._timeout_s if timeout_s is None else max(0.05, min(self._timeout_s, timeout_s))
        with sending_request():
            try:
                return self._classify_response(self._request(payload, step_timeout_s))
            except httpx.TransportError as error:
                return DeliveryResult(Outcome.RETRY, None, f"{type(error).__name__}: {error}"[:REASON_CHARS_MAX])
            except Exception as error:
                # The URL or the API key is invalid: a retry would fail in the same way.
                return DeliveryResult(Outcome.REJECTED, None, f"{type(error).__name__}: {error}"[:REASON_CHARS_MAX])

    def _request(self, payload: Payload, timeout_s: float) -> httpx.Response:
        headers = {
            "X-API-Key": self._api_key,
            "Idempotency-Key": payload.idempotency_key,
            "Content-Type": "application/json",
        }
        client = self._open_client()
        url, body = self._base_url + payload.path, payload.body()
        try:
            return client.post(url, content=body, headers=headers, timeout=timeout_s)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            # The service closed the idle connection; the second attempt opens a new one.
            return client.post(url, content=body, headers=headers, timeout=timeout_s)

    def _open_client(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(
                # Loads CA certificates only for HTTPS, because loading them is slow. Does not follow redirects.
                verify=not self._base_url.lower().startswith("http://"),
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S),
                headers={"User-Agent": f"monlight-python/{__version__}"},
            )
        return self._client

    @staticmethod
    def _classify_response(response: httpx.Response) -> DeliveryResult:
        status, reason = response.status_code, f"status {response.status_code}: {response.text[:REASON_CHARS_MAX]}"
        if response.is_success:
            return DeliveryResult(Outcome.DELIVERED, status, reason)
        location = response.headers.get("Location")
        if location is not None:
            # Not followed, because the target may be another host, which must not receive the API key.
            reason = f"status {status}: redirected to {scrub_url(location)[:REASON_CHARS_MAX]}, which must be the URL"
        if status in RETRY_STATUSES:
            retry_after_s = parse_retry_after(response.headers.get("Retry-After"), time())
            return DeliveryResult(Outcome.RETRY, status, reason, retry_after_s)
        return DeliveryResult(Outcome.REJECTED, status, reason)

    def reset(self) -> None:
        """Abandons the connection without closing it: in a forked child, a TLS shutdown would end the parent's
        connection."""
        self._client = None

    def close(self) -> None:
        """Closes the connection. The next request opens a new one."""
        client, self._client = self._client, None
        if client is not None:
            with sending_request():
                client.close()
