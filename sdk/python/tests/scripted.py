"""A server for what the real ones do rarely: it answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    client: tuple[str, int]
    is_answered: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Answers are a status, a status with headers, or "close", which breaks the connection off; after the last one,
    202. With `hold` set, answers wait for it to be released."""

    def __init__(self, *answers: Any) -> None:
        self.seen: list[Seen] = []
        self.closed: list[tuple[str, int]] = []
        self.held = threading.Event()
        self.held.set()
        left = list(answers)
        seen, closed, held = self.seen, self.closed, self.held

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one packet; a second one would wait 40 ms for the first one's acknowledgement.
            wbufsize = 65_536

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Seen(self.path, headers, body, time.monotonic(), self.client_address)
                seen.append(request)
                answer = left.pop(0) if left else 202
                held.wait()
                request.is_answered = True
                if answer == "close":
                    self.close_connection = True
                    return
                status, extra = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in {"Content-Length": "2", **extra}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            def finish(self) -> None:
                super().finish()
                closed.append(self.client_address)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()
