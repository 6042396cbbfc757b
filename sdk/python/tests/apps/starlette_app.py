"""Starlette application without FastAPI."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from app_settings import MONLIGHT
from monlight.integrations.fastapi import setup_monlight


async def item(request: Request) -> Response:
    return PlainTextResponse(request.path_params["item"])


async def broken(request: Request) -> Response:
    raise ValueError(f"item {request.path_params['item']} is broken")


routes = [
    Mount("/api", routes=[Route("/items/{item}", item), Route("/broken/{item}", broken, methods=["POST"])]),
]
app = Starlette(routes=routes)
setup_monlight(app, **MONLIGHT)
