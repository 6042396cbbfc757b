"""HTTP server with predefined responses that records all requests, for responses that the real services rarely give."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class RecordedRequest:
    """A request that the server received; `received_at` is a value of the monotonic clock."""

    path: str
    headers: dict[str, str]
    body: bytes
    received_at: float
    client: tuple[str, int]
    is_answered: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Server that answers requests with predefined responses.

    Args:
        responses: One item per request: a status, a status with headers, or "close", which closes the connection
            without a response. After the last item, every request is answered with status 202.
    """

    def __init__(self, *responses: Any) -> None:
        self.requests: list[RecordedRequest] = []
        self.closed_connections: list[tuple[str, int]] = []
        self._may_respond = threading.Event()
        self._may_respond.set()
        responses_left = list(responses)
        requests, closed_connections, may_respond = self.requests, self.closed_connections, self._may_respond

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Buffers head and body into one packet. A second packet would wait 40 ms for the acknowledgement of the
            # first (Nagle's algorithm with delayed acknowledgements).
            wbufsize = 65_536

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = RecordedRequest(self.path, headers, body, time.monotonic(), self.client_address)
                requests.append(request)
                response = responses_left.pop(0) if responses_left else 202
                may_respond.wait()
                request.is_answered = True
                if response == "close":
                    self.close_connection = True
                    return
                status, extra_headers = response if isinstance(response, tuple) else (response, {})
                self.send_response(status)
                for name, value in {"Content-Length": "2", **extra_headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            def finish(self) -> None:
                super().finish()
                closed_connections.append(self.client_address)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def pause_responses(self) -> None:
        """Delays all responses until `resume_responses`."""
        self._may_respond.clear()

    def resume_responses(self) -> None:
        self._may_respond.set()

    def close(self) -> None:
        self.resume_responses()
        self._server.shutdown()
        self._server.server_close()
