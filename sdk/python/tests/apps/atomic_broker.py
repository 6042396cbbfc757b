"""Broker in the file system for Celery, in which a message appears only when it is complete."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Channel that publishes with a rename. Workers can read half of a message that the channel of kombu writes."""

    def _put(self, queue: str, payload: Mapping[str, Any], **kwargs: Any) -> None:  # type: ignore[override]
        file = Path(self.data_folder_out, f"{time.monotonic_ns():020}_{uuid4()}.{queue}.msg")
        part = file.with_suffix(".part")
        part.write_text(dumps(payload))  # type: ignore[no-untyped-call]
        part.rename(file)


class Transport(filesystem.Transport):
    """Transport with `Channel`."""

    Channel = Channel


TRANSPORT_ALIASES["atomic"] = "atomic_broker:Transport"


def settings(folder: str) -> dict[str, Any]:
    """Returns the settings of a Celery application whose messages are files in a folder."""
    folders = ("data_folder_in", "data_folder_out", "control_folder")
    return {"broker_url": "atomic://", "broker_transport_options": dict.fromkeys(folders, folder)}
