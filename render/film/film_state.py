"""Manifest `frames.json` of a film's directory: how many of its frames are finished."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypedDict

from render.errors import StorageError
from render.film.rate import MAX_FRAMES
from render.storage.opening import open_storage
from render.storage.records import Between, MalformedRecord, Sha256, check_shape, parse_record
from render.storage.url import Place

#: Name of the manifest.
FRAMES = "frames.json"
_VERSION = 1
_Count = Annotated[int, Between(0, MAX_FRAMES)]


@dataclass(frozen=True)
class FilmState:
    """Progress of a film, as it is stored.

    Attributes:
        digest: Digest of the film.
        finished: Number of finished frames, whose pictures are in the directory.
        frames: Number of frames of the whole film, as it was asked for last.
    """

    digest: str
    finished: int
    frames: int


class _StoredState(TypedDict):
    """The shape of the file."""

    version: Literal[1]
    digest: Sha256
    finished: _Count
    frames: _Count
    sha256: Sha256


def write_state(place: Place, state: FilmState) -> None:
    """Write the manifest, completely or not at all; raise `OSError` or `StorageError` if that fails."""
    content = {"version": _VERSION, **asdict(state)}
    data = json.dumps({**content, "sha256": _sha256(content)}) + "\n"
    open_storage(place, patient=True).write(FRAMES, data.encode())


def read_state(place: Place) -> FilmState | None:
    """Return the manifest in a directory or at a URL; None if there is none, or none that is whole."""
    try:
        stored = parse_record(open_storage(place).load(FRAMES)[0])
        check_shape(stored, _StoredState)
    except StorageError:
        raise
    except (OSError, MalformedRecord):
        return None
    content = {key: stored[key] for key in ("version", "digest", "finished", "frames")}
    if stored["sha256"] != _sha256(content) or stored["finished"] > stored["frames"]:
        return None
    return FilmState(stored["digest"], stored["finished"], stored["frames"])


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
