"""Flask as people write it: a blueprint, handlers that raise, a stream."""

from collections.abc import Iterator

from flask import Blueprint, Flask, Response, abort

from monlight.integrations.flask import setup_monlight
from settings_of_apps import MONLIGHT, PLAIN

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
    def pieces() -> Iterator[str]:
        yield "1\n"
        raise OSError("the stream is broken")

    return Response(pieces())


app.register_blueprint(api)
if not PLAIN:
    setup_monlight(app, **MONLIGHT)
