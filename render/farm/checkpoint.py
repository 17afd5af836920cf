"""Checkpoints of a run: two slots that take turns, and a manifest that says which canvas counts.

A slot holds the canvas and whatever else the next step depends on, in parts with names (an optimiser's moments). It is
written whole before the manifest names it, and the manifest is replaced in one move, so that at any moment it names a
canvas that is complete with its parts, and beside it the one before.

A slot has a name of its own every time that it is made: who was cut off and writes late writes to what nothing names any
more. In an object store the manifest is replaced only as it was last seen, so that of two drivers one must stop.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

from render.canvas import store
from render.errors import Overtaken, StorageError, UserError
from render.geometry.geometry import whole
from render.storage.opening import open_storage
from render.storage.records import (
    Between,
    MalformedRecord,
    Matching,
    Side,
    WholeNumber,
    check_shape,
    parse_record,
)
from render.storage.storage import Seen, Version
from render.storage.url import Place, joined

#: The part that is there always.
CANVAS = "canvas"
MANIFEST = "manifest.json"
_SLOTS = ("a", "b")
#: A slot or a part of one, also as older versions named them, without a token.
_SLOT_NAME, _PART_NAME = r"[ab](-[0-9a-f]{8})?", r"[a-z][a-z0-9-]{0,63}"
_SLOT = re.compile(rf"(?P<slot>{_SLOT_NAME})(\.{_PART_NAME})?")
_PART = re.compile(_PART_NAME)
_VERSION = 1
#: Seconds since the epoch of the latest time that is told: clocks end somewhere.
_LAST_TIME = 1e11


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

    def saved_at(self, form: str) -> str:
        """When it was saved, by this machine's clock and in a form of `time.strftime`."""
        return time.strftime(form, time.localtime(min(self.saved, _LAST_TIME)))

    @property
    def is_told(self) -> bool:
        """Whether the history leads to this octave, whose size it then knows."""
        return len(self.history) == self.octave + 1


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


_NotNegative = Annotated[float, Between(0.0, float("inf"))]


class _StoredHistory(TypedDict):
    height: Side
    width: Side
    mean_gradient: list[float]
    seconds: list[_NotNegative]


class _StoredRequired(TypedDict):
    slot: Annotated[str, Matching(_SLOT_NAME)]
    token: Annotated[str, Matching("[0-9A-Za-z]{1,32}")]
    octave: WholeNumber
    steps: WholeNumber
    history: list[_StoredHistory]
    saved: _NotNegative


class _StoredCheckpoint(_StoredRequired, total=False):
    #: Older manifests say nothing of them.
    parts: list[Annotated[str, Matching(_PART_NAME)]]


class _StoredFixed(TypedDict):
    digest: str
    weights_sha256: str
    tiles: list[list[Side]]
    threads: Annotated[int, Between(1, 100_000)]


class _Manifest(TypedDict):
    version: int
    sha256: str
    fixed: _StoredFixed
    checkpoints: list[_StoredCheckpoint]


class Checkpoints:
    """The checkpoints in a directory or in an object store."""

    def __init__(self, place: Place, confirm: Callable[[], None] = lambda: None) -> None:
        """`confirm` is called before room is made, and raises where the place is another run's by now."""
        self._place = place
        self._confirm = confirm
        self._storage = open_storage(place, patient=True)
        #: The manifest as this process knows it, and whether it is this process that wrote it.
        self._seen: Version | Seen = Seen.NOTHING
        self._ours = False
        #: What a manifest has to say of its run, for the day when the run's own record is lost.
        self.about: Callable[[], Mapping[str, Any]] = dict

    def path(self, checkpoint: Checkpoint, part: str = CANVAS) -> Place:
        """Where its canvas lies, or another of its parts: a Zarr array."""
        return joined(self._place, checkpoint.slot if part == CANVAS else f"{checkpoint.slot}.{part}")

    def read(self) -> tuple[Fixed, list[Checkpoint]] | None:
        """What the manifest says, newest checkpoint first; None where there is no manifest.

        Raises `UserError` for a manifest that no run wrote, and `Overtaken` where this process wrote one and another has
        replaced it.
        """
        path = joined(self._place, MANIFEST)
        try:
            content, seen = self._storage.load(MANIFEST)
            if self._ours and seen != self._seen:
                raise self._overtaken()
            self._seen = seen
            manifest = _checked_manifest(parse_record(content))
            return _fixed(manifest["fixed"]), [_checkpoint(stored) for stored in manifest["checkpoints"]]
        except FileNotFoundError:
            if self._ours and isinstance(self._seen, Version) and self._seen.tag is not None:
                raise self._overtaken() from None
            self._seen = Seen.NOTHING
            return None
        except (OSError, MalformedRecord) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{path} cannot be read ({reason}): rendered with fresh=true, it starts over") from None

    def read_about(self) -> Any:
        """Return the manifest's words on its run; None where there are none that can be relied on."""
        try:
            manifest = parse_record(self._storage.load(MANIFEST)[0])
        except (OSError, MalformedRecord):
            return None
        said = manifest.get("about") if isinstance(manifest, dict) else None
        if not isinstance(said, dict) or said.get("sha256") != _sha256(said.get("run")):
            return None
        return said["run"]

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
        self._confirm()
        taken = read[1][0].slot if read and read[1] else ""
        letter = next(letter for letter in _SLOTS if letter != taken[:1])
        token = secrets.token_hex(8)
        slot = f"{letter}-{token[:8]}"
        checkpoint = Checkpoint(slot, token, octave, steps, tuple(history), parts=tuple(parts))
        if read and len(read[1]) > 1:
            # From here on only one canvas can be relied on.
            self._write(read[0], read[1][:1])
        self._empty_all_but(taken)
        for part in (CANVAS, *parts):
            path = self.path(checkpoint, part)
            try:
                store.create(path, shape, checkpoint.token)
            except StorageError:
                raise
            except (OSError, ValueError) as error:  # The latter where something could not be removed.
                raise _unwritable(path, error) from None
        return checkpoint

    def commit(self, fixed: Fixed, checkpoint: Checkpoint) -> None:
        """From now on this checkpoint counts; the one that counted until now stays beside it."""
        read = self.read()
        before = [one for one in (read[1] if read else []) if one.slot[:1] != checkpoint.slot[:1]]
        self._write(fixed, [checkpoint, *before[:1]])

    def forget(self, checkpoint: Checkpoint) -> None:
        """Strikes a canvas that turned out to be damaged from the manifest."""
        read = self.read()
        if read is not None:
            self._write(read[0], [one for one in read[1] if one.token != checkpoint.token])

    def abandon(self, checkpoint: Checkpoint) -> None:
        """Removes a canvas that could not be written whole; those before it still count."""
        self._empty(lambda slot: slot == checkpoint.slot)

    def keep_newest(self) -> None:
        """Drops the canvas that does not count any more: the run is over."""
        read = self.read()
        if read is None or not read[1]:
            return
        fixed, found = read
        self._write(fixed, found[:1])
        self._empty_all_but(found[0].slot)

    def discard(self) -> None:
        """Removes everything."""
        # The manifest first: what it names must never be half there.
        self._storage.remove(MANIFEST)
        self._seen, self._ours = Seen.NOTHING, False
        self._empty(lambda _slot: True)
        if isinstance(self._place, Path):
            # What else lies there is nobody's business.
            with suppress(OSError):
                self._place.rmdir()

    def _empty_all_but(self, kept: str) -> None:
        """Removes what does not count: the other slot, and what was abandoned or written late."""
        self._empty(lambda slot: slot != kept)

    def _empty(self, emptied: Callable[[str], bool]) -> None:
        """Removes the canvases of slots, and all that lies beside them, whichever checkpoint's parts they were."""
        for name in self._storage.children():
            matched = _SLOT.fullmatch(name)
            if matched and emptied(matched["slot"]):
                self._storage.remove_tree(name)

    def _write(self, fixed: Fixed, checkpoints: Sequence[Checkpoint]) -> None:
        plain = asdict(fixed), [asdict(checkpoint) for checkpoint in checkpoints]
        manifest = {"version": _VERSION, "sha256": _sha256(*plain), "fixed": plain[0], "checkpoints": plain[1]}
        run = json.loads(json.dumps(self.about()))
        if run:
            manifest["about"] = {"sha256": _sha256(run), "run": run}
        try:
            # Before the slot that the manifest named until now may be emptied, the new one must have reached the disk.
            self._seen = self._storage.write(MANIFEST, json.dumps(manifest, indent=1).encode(), self._seen)
            self._ours = True
        except Overtaken:
            raise self._overtaken() from None
        except OSError as error:
            raise _unwritable(self._place, error) from None

    def _overtaken(self) -> Overtaken:
        return Overtaken(f"another run has saved in {self._place} meanwhile and goes on there: this one stops")


def _checked_manifest(manifest: Any) -> _Manifest:
    """The manifest, when it is one of this program as it was written; raises `MalformedRecord`."""
    check_shape(manifest, _Manifest)
    if manifest["version"] != _VERSION:
        raise MalformedRecord(f"version {manifest['version']}")
    if manifest["sha256"] != _sha256(manifest["fixed"], manifest["checkpoints"]):
        raise MalformedRecord("it is not as it was written")
    if not all(len(tile) == 2 for tile in manifest["fixed"]["tiles"]):
        raise MalformedRecord("fixed.tiles is not what it can be")
    checked: _Manifest = manifest
    return checked


def _fixed(stored: _StoredFixed) -> Fixed:
    tiles = tuple((rows, columns) for rows, columns in stored["tiles"])
    return Fixed(stored["digest"], stored["weights_sha256"], tiles, stored["threads"])


def _checkpoint(stored: _StoredCheckpoint) -> Checkpoint:
    history = tuple(
        OctaveHistory(octave["height"], octave["width"], tuple(octave["mean_gradient"]), tuple(octave["seconds"]))
        for octave in stored["history"]
    )
    return Checkpoint(
        stored["slot"],
        stored["token"],
        stored["octave"],
        stored["steps"],
        history,
        stored["saved"],
        tuple(stored.get("parts", ())),
    )


def _sha256(*said: Any) -> str:
    """Of what a manifest says: a changed digit would still be a number, and the run go on from there."""
    return hashlib.sha256(json.dumps(list(said), sort_keys=True).encode()).hexdigest()


def _unwritable(path: Place, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"checkpoint {path} cannot be written ({reason}): free some space; what was saved before is intact")
