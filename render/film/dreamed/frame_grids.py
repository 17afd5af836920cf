"""Record of the tile grids of a film's frames, beside its canvases: every later run of the film dreams on the same grids.

What `tiles.size=auto` chooses depends on the machine, and the canvases that are kept need not have a frame of each plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypedDict

from render.errors import UserError
from render.farm.checkpoint import ResumeKey
from render.film.dreamed.canvases import FrameCanvases
from render.film.film_directory import GRIDS
from render.storage.opening import open_storage
from render.storage.records import Between, MalformedRecord, Sha256, Side, check_shape, parse_record
from render.storage.url import Place, joined

_VERSION = 1


class _StoredGrids(TypedDict):
    """The shape of the file."""

    version: Literal[1]
    sha256: Sha256
    digest: Sha256
    weights_sha256: Sha256
    threads: Annotated[int, Between(1, 100_000)]
    first: list[list[Side]]
    later: list[list[Side]]


def write_grids(place: Place, first: ResumeKey, later_tiles: Sequence[tuple[int, int]]) -> None:
    """Write the grids of a film beside its canvases; raise `UserError` if that fails.

    Args:
        place: Directory or URL of the canvases.
        first: Values of the first frame, with the digest of the film's canvases.
        later_tiles: Core of every octave's grid in later frames, (rows, columns) px.
    """
    content = {
        "version": _VERSION,
        "digest": first.digest,
        "weights_sha256": first.weights_sha256,
        "threads": first.threads,
        "first": [list(core) for core in first.tiles],
        "later": [list(core) for core in later_tiles],
    }
    data = json.dumps({**content, "sha256": _sha256(content)}) + "\n"
    try:
        open_storage(place, patient=True).write(GRIDS, data.encode())
    except OSError as error:
        raise UserError(f"{joined(place, GRIDS)} cannot be written ({error.strerror}): free some space") from None


def resume_keys(canvases: FrameCanvases, digest: str) -> tuple[ResumeKey | None, ResumeKey | None]:
    """Return the values that the first frame and later ones were saved with, as far as they are known.

    Args:
        canvases: Canvases of the film.
        digest: Digest that they are saved with.

    Raises:
        UserError: A record or a canvas cannot be read, or a canvas is another film's.
    """
    stored = _read(canvases.place, digest)
    if stored is None:
        return _keys_of_canvases(canvases)
    first, later = ([(rows, columns) for rows, columns in cores] for cores in (stored["first"], stored["later"]))
    key = ResumeKey(digest, stored["weights_sha256"], tuple(first), stored["threads"])
    return key, replace(key, tiles=tuple(later))


def _read(place: Place, digest: str) -> _StoredGrids | None:
    """Return the record; None if there is none of this film that is whole."""
    try:
        content = parse_record(open_storage(place, patient=True).load(GRIDS)[0])
        check_shape(content, _StoredGrids)
    except (FileNotFoundError, MalformedRecord):
        return None
    except OSError as error:
        raise UserError(f"{joined(place, GRIDS)} cannot be read ({error.strerror}): make it readable") from None
    stored: _StoredGrids = content
    values = {name: content[name] for name in _StoredGrids.__annotations__ if name != "sha256"}
    is_whole = stored["sha256"] == _sha256(values) and all(len(core) == 2 for core in (*stored["first"], *stored["later"]))
    return stored if is_whole and stored["digest"] == digest else None


def _keys_of_canvases(canvases: FrameCanvases) -> tuple[ResumeKey | None, ResumeKey | None]:
    """Return what the canvases say, for films that were begun without a record.

    Threads of kernels are the same in all frames, so those of a later one stand for the first's.
    """
    first = later = None
    for frame in canvases.frames():
        key = canvases.resume_key(frame)
        if key is not None and frame == 0:
            first = key
        elif key is not None:
            later = key
    if first is None and later is not None:
        first = replace(later, tiles=())
    return first, later


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
