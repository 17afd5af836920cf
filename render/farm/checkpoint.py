"""Checkpoints of a run: two slots that take turns, and a manifest that names the current canvas.

A slot holds the canvas and everything else that the next step depends on, in named parts (an optimizer's moments). A slot
is written completely before the manifest names it, and the manifest is replaced in one move. So at any moment it names a
complete canvas with its parts, and also the one before.

Every slot gets a new name, so that a writer that was cut off and writes late writes to a slot that no manifest names. In
an object store the manifest is replaced only if it has not changed since it was read, so that of two drivers one must stop.
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
from typing import Annotated, Any, NamedTuple, TypedDict

from render.canvas import store
from render.errors import Overtaken, StorageError, UserError
from render.farm.parts import CANVAS
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
from render.storage.storage import Precondition, Version
from render.storage.url import Place, joined

MANIFEST = "manifest.json"
_SLOTS = ("a", "b")
#: Name of a slot or of a part of one. Older versions use names without a token.
_SLOT_NAME, _PART_NAME = r"[ab](-[0-9a-f]{8})?", r"[a-z][a-z0-9-]{0,63}"
_SLOT = re.compile(rf"(?P<slot>{_SLOT_NAME})(\.{_PART_NAME})?")
_PART = re.compile(_PART_NAME)
_VERSION = 1
#: Latest time that is shown, in seconds since the epoch, because `localtime` has a limit.
_LAST_TIME = 1e11


@dataclass(frozen=True)
class OctaveHistory:
    """History of one octave: its size, and for every step mean|g| and the seconds it took."""

    height: int
    width: int
    mean_gradient: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A stored canvas: `steps` steps of octave `octave` are done, and `history` is the run up to there.

    `parts` are the names of the arrays that are stored beside it and have its shape.
    """

    slot: str
    token: str
    octave: int
    steps: int
    history: tuple[OctaveHistory, ...]
    saved: float = field(default_factory=time.time)
    parts: tuple[str, ...] = ()

    def saved_at(self, form: str) -> str:
        """Return the local time of the save, in a format of `time.strftime`."""
        return time.strftime(form, time.localtime(min(self.saved, _LAST_TIME)))

    @property
    def has_history(self) -> bool:
        """True if the history reaches this octave, and so knows its size."""
        return len(self.history) == self.octave + 1


@dataclass(frozen=True)
class ResumeKey:
    """Values that must match for a bit-identical resume.

    Attributes:
        digest: Identifies the picture.
        weights_sha256: Checksum of the network's parameters.
        tiles: Core of every octave's grid in (rows, columns) px.
        threads: CPU threads of the kernel, where it runs on a CPU.
    """

    digest: str
    weights_sha256: str
    tiles: tuple[tuple[int, int], ...]
    threads: int


class Manifest(NamedTuple):
    """A run's saved state: what a resumed run must match, and the checkpoints, newest first."""

    resume_key: ResumeKey
    checkpoints: list[Checkpoint]


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
    #: Missing in older manifests.
    parts: list[Annotated[str, Matching(_PART_NAME)]]


class _StoredResumeKey(TypedDict):
    digest: str
    weights_sha256: str
    tiles: list[list[Side]]
    threads: Annotated[int, Between(1, 100_000)]


class _StoredManifest(TypedDict):
    version: int
    sha256: str
    fixed: _StoredResumeKey
    checkpoints: list[_StoredCheckpoint]


class Checkpoints:
    """The checkpoints in a directory or in an object store."""

    def __init__(self, place: Place, confirm: Callable[[], None] = lambda: None) -> None:
        """Open the storage at `place`. `confirm` runs before room is made, and raises if another run owns the place."""
        self._place = place
        self._confirm = confirm
        self._storage = open_storage(place, patient=True)
        #: The manifest's last known version, and whether this process wrote it.
        self._seen: Version | Precondition = Precondition.ABSENT
        self._ours = False
        #: Source of a copy of the run's record for the manifest, in case the record itself is lost.
        self.about: Callable[[], Mapping[str, Any]] = dict

    def path(self, checkpoint: Checkpoint, part: str = CANVAS) -> Place:
        """Return the place of a checkpoint's canvas, or of another of its parts: a Zarr array.

        Paths are absolute: workers of a running cluster have other working directories.
        """
        place = joined(self._place, checkpoint.slot if part == CANVAS else f"{checkpoint.slot}.{part}")
        return place.absolute() if isinstance(place, Path) else place

    def read(self) -> Manifest | None:
        """Return the manifest, or None if there is none.

        Raises:
            UserError: No run wrote this manifest.
            Overtaken: This process wrote a manifest, and another process has replaced it.
        """
        path = joined(self._place, MANIFEST)
        try:
            content, seen = self._storage.load(MANIFEST)
            if self._ours and seen != self._seen:
                raise self._overtaken()
            self._seen = seen
            stored = _checked_manifest(parse_record(content))
            return Manifest(_resume_key(stored["fixed"]), [_checkpoint(entry) for entry in stored["checkpoints"]])
        except FileNotFoundError:
            if self._ours and isinstance(self._seen, Version) and self._seen.tag is not None:
                raise self._overtaken() from None
            self._seen = Precondition.ABSENT
            return None
        except (OSError, MalformedRecord) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{path} cannot be read ({reason}): rendered with fresh=true, it starts over") from None

    def read_about(self) -> Any:
        """Return the manifest's copy of the run's record, or None if there is none that can be relied on."""
        try:
            manifest = parse_record(self._storage.load(MANIFEST)[0])
        except (OSError, MalformedRecord):
            return None
        about = manifest.get("about") if isinstance(manifest, dict) else None
        if not isinstance(about, dict) or about.get("sha256") != _sha256(about.get("run")):
            return None
        return about["run"]

    def check(self, checkpoint: Checkpoint, shape: tuple[int, int]) -> None:
        """Read a whole canvas of `shape` and all its parts, strip by strip.

        Raise `DamagedCheckpoint` if one differs from the data that were written.
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
        """Empty the unused slot and make a canvas of `shape` there, to be written and then committed.

        Also make the further `parts`, each with the canvas' shape and token. Names are of small letters, digits and -.
        """
        if len({CANVAS, *parts}) != 1 + len(parts) or not all(map(_PART.fullmatch, parts)):
            raise ValueError(f"no names of parts: {parts}")
        manifest = self.read()
        self._confirm()
        newest_slot = manifest.checkpoints[0].slot if manifest and manifest.checkpoints else ""
        letter = next(letter for letter in _SLOTS if letter != newest_slot[:1])
        token = secrets.token_hex(8)
        slot = f"{letter}-{token[:8]}"
        checkpoint = Checkpoint(slot, token, octave, steps, tuple(history), parts=tuple(parts))
        if manifest and len(manifest.checkpoints) > 1:
            # From here on only one canvas is intact.
            self._write(manifest.resume_key, manifest.checkpoints[:1])
        self._empty_all_but(newest_slot)
        for part in (CANVAS, *parts):
            path = self.path(checkpoint, part)
            try:
                store.create(path, shape, checkpoint.token)
            except StorageError:
                raise
            except (OSError, ValueError) as error:  # ValueError if an old array could not be removed.
                raise _unwritable(path, error) from None
        return checkpoint

    def commit(self, resume_key: ResumeKey, checkpoint: Checkpoint) -> None:
        """Make this checkpoint the newest; the one that was newest until now stays beside it."""
        manifest = self.read()
        earlier = [entry for entry in (manifest.checkpoints if manifest else []) if entry.slot[:1] != checkpoint.slot[:1]]
        self._write(resume_key, [checkpoint, *earlier[:1]])

    def forget(self, checkpoint: Checkpoint) -> None:
        """Remove a damaged canvas from the manifest."""
        manifest = self.read()
        if manifest is not None:
            intact = [entry for entry in manifest.checkpoints if entry.token != checkpoint.token]
            self._write(manifest.resume_key, intact)

    def abandon(self, checkpoint: Checkpoint) -> None:
        """Remove a canvas that could not be written completely; earlier ones still count."""
        self._empty(lambda slot: slot == checkpoint.slot)

    def keep_newest(self) -> None:
        """Remove all canvases but the newest: the run is over."""
        manifest = self.read()
        if manifest is None or not manifest.checkpoints:
            return
        self._write(manifest.resume_key, manifest.checkpoints[:1])
        self._empty_all_but(manifest.checkpoints[0].slot)

    def discard(self) -> None:
        """Remove everything."""
        # The manifest first: it must never name a canvas that is partly removed.
        self._storage.remove(MANIFEST)
        self._seen, self._ours = Precondition.ABSENT, False
        self._empty(lambda _slot: True)
        if isinstance(self._place, Path):
            # Keep the directory if it holds other files.
            with suppress(OSError):
                self._place.rmdir()

    def _empty_all_but(self, slot_in_use: str) -> None:
        """Remove all slots but `slot_in_use`: the other one, and those that were abandoned or written late."""
        self._empty(lambda slot: slot != slot_in_use)

    def _empty(self, selects: Callable[[str], bool]) -> None:
        """Remove the canvases of the slots that `selects`, and all parts beside them."""
        for name in self._storage.children():
            matched = _SLOT.fullmatch(name)
            if matched and selects(matched["slot"]):
                self._storage.remove_tree(name)

    def _write(self, resume_key: ResumeKey, checkpoints: Sequence[Checkpoint]) -> None:
        records = asdict(resume_key), [asdict(checkpoint) for checkpoint in checkpoints]
        manifest = {"version": _VERSION, "sha256": _sha256(*records), "fixed": records[0], "checkpoints": records[1]}
        run = json.loads(json.dumps(self.about()))
        if run:
            manifest["about"] = {"sha256": _sha256(run), "run": run}
        try:
            # The new manifest must reach the disk before the slot that the old one named is emptied.
            self._seen = self._storage.write(MANIFEST, json.dumps(manifest, indent=1).encode(), self._seen)
            self._ours = True
        except Overtaken:
            raise self._overtaken() from None
        except OSError as error:
            raise _unwritable(self._place, error) from None

    def _overtaken(self) -> Overtaken:
        return Overtaken(f"another run has saved in {self._place} meanwhile and goes on there: this one stops")


def _checked_manifest(manifest: Any) -> _StoredManifest:
    """Return the manifest if this program wrote it and it is unchanged; otherwise raise `MalformedRecord`."""
    check_shape(manifest, _StoredManifest)
    if manifest["version"] != _VERSION:
        raise MalformedRecord(f"version {manifest['version']}")
    if manifest["sha256"] != _sha256(manifest["fixed"], manifest["checkpoints"]):
        raise MalformedRecord("it is not as it was written")
    if not all(len(tile) == 2 for tile in manifest["fixed"]["tiles"]):
        raise MalformedRecord("fixed.tiles is not what it can be")
    checked: _StoredManifest = manifest
    return checked


def _resume_key(stored: _StoredResumeKey) -> ResumeKey:
    tiles = tuple((rows, columns) for rows, columns in stored["tiles"])
    return ResumeKey(stored["digest"], stored["weights_sha256"], tiles, stored["threads"])


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


def _sha256(*values: Any) -> str:
    """Return the SHA-256 of values in a manifest, to detect changes: a changed digit would still be a valid number."""
    return hashlib.sha256(json.dumps(list(values), sort_keys=True).encode()).hexdigest()


def _unwritable(path: Place, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"checkpoint {path} cannot be written ({reason}): free some space; what was saved before is intact")
