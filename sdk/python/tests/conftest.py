from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monlight import _guard
from scripted import ScriptedServer
from services import Collector, Tracker


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    service = Tracker("error-tracker", tmp_path)
    yield service
    service.kill()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    service = Collector("metrics-collector", tmp_path)
    yield service
    service.kill()


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedServer]]:
    """Starts servers that answer what a test tells them."""
    servers: list[ScriptedServer] = []

    def start(*answers: object) -> ScriptedServer:
        servers.append(ScriptedServer(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def warnings_anew() -> None:
    """A warning that one test has seen is not kept from the next."""
    _guard._warned.clear()
