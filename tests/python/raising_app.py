"""An application as people write them: FastAPI with the published client, and handlers that raise.

Started with the tracker's URL and key; prints its port and ends when its standard input closes.
"""

import logging
import socket
import sys
import threading

import uvicorn
from fastapi import FastAPI
from monlight.integrations.fastapi import setup_monlight

# What it raises is the tracker's to tell.
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


def end_with_stdin() -> None:
    sys.stdin.read()
    server.should_exit = True


threading.Thread(target=end_with_stdin, daemon=True).start()
print(listener.getsockname()[1], flush=True)
server.run(sockets=[listener])
