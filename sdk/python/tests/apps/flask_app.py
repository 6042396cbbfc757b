"""Typical Flask application: a blueprint, handlers that raise, and a streaming response."""

from collections.abc import Iterator

from flask import Blueprint, Flask, Response, abort

from app_settings import IS_DISABLED, MONLIGHT
from monlight.integrations.flask import setup_monlight

app = Flask(__name__)
api = Blueprint("api", __name__, url_prefix="/api")


@api.get("/items/<int:item>")
def item(item: int) -> dict[str, int]:
    return {"item": item}


@api.post("/broken/<int:item>")
def broken(item: int) -> Response:
    raise ValueError(f"item {item} is broken")


@app.get("/teapot")
def teapot() -> Response:
    abort(418)


@app.get("/stream")
def stream() -> Response:
    def chunks() -> Iterator[str]:
        yield "1\n"
        raise OSError("stream failed")

    return Response(chunks())


app.register_blueprint(api)
if not IS_DISABLED:
    setup_monlight(app, **MONLIGHT)
