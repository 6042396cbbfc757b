"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from monlight import _safety
from scripted_server import ScriptedServer
from services import Collector, Tracker

# An example takes long while other tests use the processor.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


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
def start_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Returns a function that starts a `ScriptedServer` with the given responses."""
    servers: list[ScriptedServer] = []

    def start(*responses: object) -> ScriptedServer:
        servers.append(ScriptedServer(*responses))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def clear_warning_cache() -> None:
    """Clears the cache of logged warnings, so that a warning of one test is not suppressed in the next."""
    _safety._last_logged_at.clear()
