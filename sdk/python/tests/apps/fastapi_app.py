"""Typical FastAPI application: a router with a prefix, a mounted application, and handlers that raise."""

import asyncio
import gc
from collections.abc import AsyncIterator

from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from app_settings import IS_DISABLED, MONLIGHT
from monlight.integrations.fastapi import setup_monlight

app = FastAPI()
api = APIRouter(prefix="/api")
shop = FastAPI()


@api.get("/items/{item}")
async def item(item: int) -> dict[str, int]:
    return {"item": item}


@api.post("/broken/{item}")
async def broken(item: int) -> None:
    raise ValueError(f"item {item} is broken")


@app.get("/sync-broken/{item}")
def sync_broken(item: int) -> None:
    raise KeyError(item)


@app.get("/teapot")
async def teapot() -> None:
    raise HTTPException(status_code=418)


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(chunks())


@app.get("/background")
async def background(tasks: BackgroundTasks) -> PlainTextResponse:
    async def work() -> None:
        await asyncio.sleep(0.3)
        raise RuntimeError("background work failed")

    tasks.add_task(work)
    return PlainTextResponse("accepted", background=tasks)


@app.get("/task")
async def task() -> None:
    async def work() -> None:
        raise ArithmeticError("task failed")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    del task
    # asyncio reports the exception when it deletes the task.
    gc.collect()


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    raise OSError("socket is broken")


@shop.get("/carts/{cart}")
async def cart(cart: str) -> dict[str, str]:
    return {"cart": cart}


app.include_router(api)
app.mount("/shops/{shop}", shop)
if not IS_DISABLED:
    setup_monlight(app, **MONLIGHT)
