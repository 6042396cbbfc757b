"""Typical FastAPI application with the published client, and with a handler that raises.

Arguments: URL of the tracker, API key. Prints its port. Exits when its standard input is closed.
"""

import logging
import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI
from monlight.integrations.fastapi import setup_monlight

# The tracker receives the exceptions; the output of the test does not need them.
logging.disable()

url, key = sys.argv[1:3]
app = FastAPI()
setup_monlight(app, error_tracker_url=url, api_key=key, project="shop")


@app.post("/checkout/{cart}")
async def checkout(cart: int) -> None:
    raise ValueError(f"cart {cart} is empty")


@app.get("/")
async def index() -> dict[str, str]:
    return {"status": "fine"}


listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))


def exit_when_stdin_closes() -> None:
    sys.stdin.read()
    server.should_exit = True


threading.Thread(target=exit_when_stdin_closes, daemon=True).start()
print(listener.getsockname()[1], flush=True)
server.run(sockets=[listener])
