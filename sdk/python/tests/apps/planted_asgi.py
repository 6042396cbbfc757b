"""FastAPI application whose handlers fail with the secrets of `planted` in their variables."""

import json
import logging

from fastapi import FastAPI, Request

import monlight
import planted
from app_settings import MONLIGHT
from monlight.integrations.fastapi import setup_monlight

app = FastAPI()
clients = setup_monlight(app, **MONLIGHT, include_locals=True)
assert clients["error_client"] is not None
logging.getLogger("planted").addHandler(monlight.MonlightHandler(clients["error_client"]))


@app.post("/reset/{token}")
async def reset(request: Request, token: str) -> None:
    scope, headers, cookies, query, body = request.scope, request.headers, request.cookies, request.query_params, b""
    body = await request.body()
    planted.charge(request, dict(headers), body, token)
    print(scope, cookies, query)


@app.post("/sync/reset/{token}")
def sync_reset(request: Request, token: str, body: dict[str, object]) -> None:
    planted.charge(request, dict(request.headers), json.dumps(body).encode(), token)
