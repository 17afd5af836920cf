"""Checkpoints of a run: two slots that take turns, and a manifest that says which canvas counts.

A slot holds the canvas and whatever else the next step depends on, in parts with names (an optimiser's moments). It is
written whole before the manifest names it, and the manifest is replaced in one move, so that at any moment it names a
canvas that is complete with its parts, and beside it the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from render.canvas import store
from render.errors import UserError
from render.geometry import whole

#: The part that is there always.
CANVAS = "canvas"
_MANIFEST, _SLOTS = "manifest.json", ("a", "b")
_PART = re.compile(r"[a-z][a-z0-9-]*")
_VERSION = 1


@dataclass(frozen=True)
class OctaveHistory:
    """What happened at one octave: its size, and of every step mean|g| and how long it took."""

    height: int
    width: int
    mean_gradient: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A stored canvas: `steps` steps of octave `octave` are done, and `history` led there.

    `parts` are the names of what is stored beside it, arrays of its shape.
    """

    slot: str
    token: str
    octave: int
    steps: int
    history: tuple[OctaveHistory, ...]
    saved: float = field(default_factory=time.time)
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fixed:
    """What a resumed run must have in common with the one that it continues, for the same bytes.

    `digest` names the picture, `weights_sha256` the parameters, `tiles` the core of every octave's grid in (rows, columns)
    px, and `threads` how many the kernel runs on where it runs on a CPU.
    """

    digest: str
    weights_sha256: str
    tiles: tuple[tuple[int, int], ...]
    threads: int


class Checkpoints:
    """The checkpoints in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, checkpoint: Checkpoint, part: str = CANVAS) -> Path:
        """Where its canvas lies, or another of its parts: a Zarr array."""
        return self._directory / (checkpoint.slot if part == CANVAS else f"{checkpoint.slot}.{part}")

    def read(self) -> tuple[Fixed, list[Checkpoint]] | None:
        """What the manifest says, newest checkpoint first; None where there is no manifest.

        Raises `UserError` for a manifest that no run wrote.
        """
        path = self._directory / _MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["version"] != _VERSION:
                raise ValueError(f"version {manifest['version']}")
            if manifest["sha256"] != _sha256(manifest["fixed"], manifest["checkpoints"]):
                raise ValueError("it is not as it was written")
            fixed = manifest["fixed"]
            found = [
                Checkpoint(
                    **{
                        **one,
                        "history": tuple(_history(octave) for octave in one["history"]),
                        # Older manifests say nothing of them.
                        "parts": tuple(one.get("parts", ())),
                    }
                )
                for one in manifest["checkpoints"]
            ]
            tiles = tuple((int(rows), int(columns)) for rows, columns in fixed["tiles"])
            return Fixed(**{**fixed, "tiles": tiles}), found
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UserError(f"{path} cannot be read ({reason}): fresh=true starts over") from None

    def check(self, checkpoint: Checkpoint, shape: tuple[int, int]) -> None:
        """Reads a whole canvas of `shape` and all its parts, strip by strip.

        Raises `DamagedCheckpoint` where one is not what was written.
        """
        for part in (CANVAS, *checkpoint.parts):
            stored = store.CanvasStore(self.path(checkpoint, part), checkpoint.token)
            for rect in whole(*shape).bands(multiple=store.CHUNK):
                stored.read(rect)

    def begin(
        self,
        shape: tuple[int, int],
        octave: int,
        steps: int,
        history: Sequence[OctaveHistory],
        parts: Sequence[str] = (),
    ) -> Checkpoint:
        """Empties the slot that does not count and makes a canvas of `shape` there, to be written and then committed.

        So are the further `parts`, each of the canvas' shape and with its token; names are of small letters, digits and -.
        """
        if len({CANVAS, *parts}) != 1 + len(parts) or not all(map(_PART.fullmatch, parts)):
            raise ValueError(f"no names of parts: {parts}")
        read = self.read()
        taken = read[1][0].slot if read and read[1] else None
        slot = next(slot for slot in _SLOTS if slot != taken)
        checkpoint = Checkpoint(slot, secrets.token_hex(8), octave, steps, tuple(history), parts=tuple(parts))
        if read and len(read[1]) > 1:
            # From here on only one canvas can be relied on.
            self._write(read[0], read[1][:1])
        self._empty(slot)
        for part in (CANVAS, *parts):
            path = self.path(checkpoint, part)
            try:
                store.create(path, shape, checkpoint.token)
            except (OSError, ValueError) as error:  # The latter where something could not be removed.
                raise _unwritable(path, error) from None
        return checkpoint

    def commit(self, fixed: Fixed, checkpoint: Checkpoint) -> None:
        """From now on this checkpoint counts; the one that counted until now stays beside it."""
        read = self.read()
        before = [one for one in (read[1] if read else []) if one.slot != checkpoint.slot]
        self._write(fixed, [checkpoint, *before[:1]])

    def forget(self, checkpoint: Checkpoint) -> None:
        """Strikes a canvas that turned out to be damaged from the manifest."""
        read = self.read()
        if read is not None:
            self._write(read[0], [one for one in read[1] if one.token != checkpoint.token])

    def abandon(self, checkpoint: Checkpoint) -> None:
        """Removes a canvas that could not be written whole; those before it still count."""
        self._empty(checkpoint.slot)

    def keep_newest(self) -> None:
        """Drops the canvas that does not count any more: the run is over."""
        read = self.read()
        if read is None or not read[1]:
            return
        fixed, found = read
        self._write(fixed, found[:1])
        for slot in _SLOTS:
            if slot != found[0].slot:
                self._empty(slot)

    def discard(self) -> None:
        """Removes everything."""
        # The manifest first: what it names must never be half there.
        (self._directory / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _empty(self, slot: str) -> None:
        """Removes a canvas and all that lies beside it, whichever checkpoint's parts they were."""
        for path in (self._directory / slot, *self._directory.glob(f"{slot}.*")):
            shutil.rmtree(path, ignore_errors=True)

    def _write(self, fixed: Fixed, checkpoints: Sequence[Checkpoint]) -> None:
        plain = asdict(fixed), [asdict(checkpoint) for checkpoint in checkpoints]
        manifest = {"version": _VERSION, "sha256": _sha256(*plain), "fixed": plain[0], "checkpoints": plain[1]}
        temporary = self._directory / f".{_MANIFEST}.partial"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._directory / _MANIFEST)
            # Before the slot that the manifest named until now may be emptied, the new one must have reached the disk.
            store.sync(self._directory)
            store.sync(self._directory.parent)
        except OSError as error:
            raise _unwritable(self._directory, error) from None


def _history(plain: dict[str, Any]) -> OctaveHistory:
    return OctaveHistory(plain["height"], plain["width"], tuple(plain["mean_gradient"]), tuple(plain["seconds"]))


def _sha256(fixed: dict[str, Any], checkpoints: list[dict[str, Any]]) -> str:
    """Of what a manifest says: a changed digit would still be a number, and the run go on from there."""
    return hashlib.sha256(json.dumps([fixed, checkpoints], sort_keys=True).encode()).hexdigest()


def _unwritable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"checkpoint {path} cannot be written ({reason}): free some space; what was saved before is intact")
