"""A run's directory, on a disk or in an object store: who may use it, its log, its previews and its record `run.json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from render.canvas.store import CanvasStore
from render.config.formats import FORMATS
from render.config.schema import Config, ModelConfig, dotted
from render.errors import StorageError, UserError
from render.export.picture import image_of, write_picture
from render.export.picture_directory import refuse_foreign, remove_replaced
from render.farm.checkpoint import Checkpoint, Checkpoints, Fixed
from render.job.copies import Copies, picture_sha256
from render.job.progress_file import PROGRESS
from render.job.run_record import CANVAS, RECORD, Reading, kept_facts, read_run
from render.job.targets import (
    PREVIEWS,
    Target,
    is_writable,
    preview_path,
    probe_url,
    refuse_unwritable,
    targets,
)
from render.source.pyramid import discard_levels
from render.storage.local import refuse_links, remove_abandoned, write_durably
from render.storage.locking import LOCK, lock_directory
from render.storage.markers import adopt
from render.storage.url import Place, checked_url, joined
from render.storage.user_paths import user_path
from render.system.logs import log_to, opening

if TYPE_CHECKING:
    from render.storage.mirror import Mirror

_LOG, _SOURCE = "render.log", "source"
_PREVIEW = re.compile(r"octave-[1-9]\d*\.png")
#: What a record is renamed to that cannot be read, where a run starts over.
_UNREADABLE = f"{RECORD}.unreadable"
#: All that a run writes through the names of its directory.
_OURS = (RECORD, _LOG, PREVIEWS, CANVAS, _SOURCE)
#: A setting of the canvas that is left out where it is as it always was.
_PRECISION = "model.precision"
_VERSIONED = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "pyvips", "hydra-core")


class RunDirectory:
    """The directory of one run and what lies in it. Nothing that another run or the user put there is written over.

    Finished pictures always lie in the directory; `output.path` and paths in `output.also` get copies. Where the
    directory is a URL, `path` is its mirror on this machine, which holds what must be files.
    """

    def __init__(self, config: Config, identity: Mapping[str, str | None], digest: str | None = None) -> None:
        """`identity` tells image, weights, objective and program apart where the settings' words do not; `digest` names a
        canvas that is there already, whatever the config's words would make of it.
        """
        self._config = config
        #: What tells the job apart where its settings' words do not.
        self.identity = dict(identity)
        self.digest = digest or config.digest(identity)
        output = config.output
        default = Path("dreams") / f"{config.name}-{self.digest[:8]}"
        url = checked_url(output.dir, "output.dir") if output.dir else None
        self._mirror: Mirror | None = None
        if url is not None:
            # Whoever keeps runs on disk does not wait for the client of object stores.
            from render.storage.mirror import Mirror

            self._mirror = Mirror(url)
        self.path = self._mirror.path if self._mirror else user_path(output.dir, "output.dir") if output.dir else default
        #: Where the run is kept: `path`, or the URL.
        self.place: Place = url or self.path
        #: The pictures that the config asks for, the one of `output.format` first.
        self.targets = targets(self.path, config.name, output)
        self.checkpoints = Checkpoints(joined(self.place, CANVAS), self._confirm_held)
        #: Where a source that is larger than memory keeps itself.
        self.levels = joined(self.place if self._mirror else self.path.absolute(), _SOURCE)
        self.record: dict[str, Any] = {}
        self._is_held = False
        #: What is known of the pictures that lie here, by name.
        self._pictures: dict[str, Any] = {}
        self.copies = Copies(config, self.digest, lambda: self.record or self._reading().record, self.save)
        self.checkpoints.about = lambda: kept_facts(self.record)

    @property
    def run_id(self) -> str:
        """What logs and metrics know the run by: the directory's name, and what tells its canvas from others."""
        name = Path(self._config.output.dir or self.path).name or self._config.name
        mark = self.digest[:8]
        return name if name.endswith(mark) else f"{name}-{mark}"

    @property
    def picture(self) -> Path:
        """The picture of `output.format`."""
        return self.targets[0].path

    def kept(self, target: Target) -> Place:
        """Where a picture is kept."""
        return joined(self.place, target.path.name) if self._mirror else target.path

    def moved(self, path: Path) -> RunDirectory:
        """The directory of the same job at another place."""
        return RunDirectory(replace(self._config, output=replace(self._config.output, dir=str(path))), self.identity)

    def is_finished(self) -> bool:
        """Whether this very canvas lies here already, finished."""
        record = self._reading().record
        finished = record.get("digest") == self.digest and record.get("status") == "finished"
        return finished and not self._config.fresh and self.newest() is not None

    def newest(self) -> Checkpoint | None:
        """The checkpoint that counts; None where there is none."""
        manifest = self.checkpoints.read()
        return manifest[1][0] if manifest and manifest[1] else None

    def canvas(self) -> CanvasStore:
        """The canvas of the newest checkpoint; `UserError` where there is none, `DamagedCheckpoint` for a bad one."""
        newest = self.newest()
        if newest is None:
            raise UserError(f"{self.place} holds no canvas yet")
        return CanvasStore(self.checkpoints.path(newest), newest.token)

    def missing(self, style: str) -> list[Target]:
        """The pictures that do not lie here yet as `style`, a digest of all that decides their bytes, would have them."""
        entries = self._reading().record.get("pictures", {})
        return [target for target in self.targets if not self._is_ours(target, entries, style)]

    def unfinished(self) -> Fixed | None:
        """What an interrupted run of this very job left to go on from; None where there is nothing, or it is not wanted."""
        if self._config.fresh or self._reading().record.get("digest") != self.digest:
            return None
        return self.fixed()

    def fixed(self) -> Fixed | None:
        """What the checkpoints here have in common; None where there are none of this job."""
        manifest = self.checkpoints.read()
        return manifest[0] if manifest and manifest[1] and manifest[0].digest == self.digest else None

    def check(self) -> None:
        """Raises `UserError` where the run would meet or replace what is not its own, or cannot write. Changes nothing,
        but that a store is tried with an object, which goes again.
        """
        if self._mirror:
            self._mirror.probe()
        elif self.path.exists() and not self.path.is_dir():
            raise UserError(f"output.dir={self.path} is a file: name a directory")
        else:
            refuse_links(self.path, *_OURS, LOCK, PROGRESS)
        reading = self._reading()
        record = reading.record
        if not record:
            self._check_without_record(reading)
        elif record["digest"] != self.digest and not self._config.fresh:
            raise UserError(
                f"{self.place} holds another run ({self._differences(record)}): choose another output.dir, or fresh=true "
                "to replace it"
            )
        self._check_pictures(record.get("pictures", {}))
        self.copies.learn(record)
        self._check_copies()

    def _check_without_record(self, reading: Reading) -> None:
        """As `check`, where no record says what lies here: its checkpoints may say it, or nothing does."""
        try:
            manifest = self.checkpoints.read()
        except StorageError:
            raise
        except UserError:
            manifest = None
        if manifest and (manifest[0].digest == self.digest or self._config.fresh):
            return
        if manifest:
            raise UserError(
                f"{self.place} holds another run, whose {RECORD} is gone: choose another output.dir, or fresh=true to "
                "replace it"
            )
        stored_names = self._mirror.children() if self._mirror else None
        run_names = (*_OURS, *(target.path.name for target in self.targets))
        foreign_names = [
            name
            for name in run_names
            if (os.path.lexists(self.path / name) if stored_names is None else name in stored_names)
        ]
        # Whoever takes the lock makes the log first: a run that was killed, or a full disk, may have left it at that.
        has_lock = (self.path / LOCK).exists() if stored_names is None else _LOG in stored_names
        if not foreign_names or (foreign_names == [_LOG] and has_lock):
            return
        if reading.damage and has_lock:
            if not self._config.fresh:
                raise UserError(
                    f"{joined(self.place, RECORD)} cannot be read ({reading.damage}), and nothing else says which run "
                    "this is: fresh=true starts over, or choose another output.dir"
                )
            return
        raise UserError(f"{self.place} holds a {foreign_names[0]} that no run made: choose another output.dir")

    def _check_pictures(self, known: Mapping[str, Any]) -> None:
        """Raises `UserError` where a picture in the directory would be replaced that is not as a run left it."""
        changed_pictures = [target for target in self.targets if self.lies(target) and not self._is_ours(target, known)]
        if changed_pictures and not self._config.overwrite:
            names = ", ".join(str(self.kept(target)) for target in changed_pictures)
            is_not, it = ("are not", "them") if len(changed_pictures) > 1 else ("is not", "it")
            raise UserError(f"{names} {is_not} as the run left {it}: move {it} away, or overwrite=true to replace {it}")
        for target in changed_pictures:
            if self._is_tree(target) and not self._mirror:
                refuse_foreign(target.path)

    def _check_copies(self) -> None:
        copies = [
            (copy, self._is_tree(target))
            for target in self.targets
            for copy in target.copies
            if not (self._mirror and copy == self.kept(target))
        ]
        for copy, tree in copies:
            self.copies.check(copy, tree=tree)
        for url in {copy.rpartition("/")[0] for copy, _ in copies if isinstance(copy, str)}:
            probe_url(url)
        for directory in {self.path, *(copy.parent for copy, _ in copies if isinstance(copy, Path))}:
            refuse_unwritable(directory)

    def refuse_busy(self) -> None:
        """Raises `UserError` where another run holds the directory: asked early, before a farm is started for nothing."""
        if self._mirror:
            self._mirror.refuse_busy()
        elif (self.path / LOCK).exists():
            self._lock().release()

    def _lock(self) -> FileLock:
        return lock_directory(self.path, "a run that is still going")

    @contextmanager
    def opened(self, *, begins: bool = True) -> Iterator[None]:
        """Holds the directory for this process, with the log attached; on the way out the record says how it ended.

        With `begins`, what cannot be gone on with is cleared away for a run that begins.
        """
        with self._held():
            self._is_held = True
            # Again, now that nobody else can: another run may have come and gone since.
            self.check()
            if not self._mirror:
                remove_abandoned(self.path)
                remove_replaced(self.path)
            self._pictures = self._reading().record.get("pictures", {})
            if begins and self.unfinished() is None:
                self._clear()
            if self._mirror:
                self._mirror.clear(_LOG)
                self._mirror.take_up_log(_LOG)
            json_of = self.run_id if self._config.log == "json" else None
            try:
                with log_to(self.path / _LOG, self._broken_off, json_of=json_of):
                    try:
                        yield
                    except StorageError:
                        if self._mirror:
                            self._mirror.hurry()
                        raise
            finally:
                self._is_held = False
                if self._mirror:
                    # Where the store does not answer any more, the error that led here is what the user must read.
                    with suppress(StorageError):
                        self._mirror.send(_LOG)

    @contextmanager
    def _held(self) -> Iterator[None]:
        if self._mirror:
            self._mirror.take()
            try:
                yield
            finally:
                self._mirror.release()
            return
        lock = self._lock()
        try:
            yield
        finally:
            lock.release()

    def check_held(self) -> None:
        """Raises `Overtaken` once another process has taken the run, as it may where this one could not be heard of."""
        if self._mirror:
            self._mirror.check()

    def _confirm_held(self) -> None:
        if self._mirror:
            self._mirror.confirm()

    def tell(self, name: str, data: bytes | None) -> None:
        """Hands on what only tells how far the run is, to those who look from elsewhere; None: nothing any more."""
        if self._mirror:
            self._mirror.tell(name, data)

    def _broken_off(self, **facts: Any) -> None:
        if self.record.get("status") != "finished":
            self.save(**facts)

    def add_picture(self, target: Target, style: str) -> None:
        """Records a picture that now lies in the directory."""
        entries = self.record.get("pictures", {})
        entry: dict[str, Any] = {"sha256": picture_sha256(target.path), "style": style}
        if self._mirror:
            # A run that is killed on the way finds what is there of it to be its own, and unfinished.
            self.save(pictures={**entries, target.path.name: {**entry, "style": "", "sending": True}})
            entry["stored"] = self._mirror.send_picture(target.path)
        self.save(pictures={**entries, target.path.name: entry})

    def hand_over(self, target: Target) -> None:
        """Sends a picture that is no part of the record to where the run is kept."""
        if self._mirror:
            self._mirror.send_picture(target.path)

    def publish(self) -> list[Place]:
        """Copies finished pictures to where the config wants them; returns where they are, copies instead of originals.

        Raises `UserError` when one cannot be copied; the picture in the run directory stays in any case.
        """
        record = self._reading().record
        self.copies.learn(record)
        published: list[Place] = []
        for target in self.targets:
            for copy in target.copies:
                if self._mirror and copy == self.kept(target):
                    continue
                is_remote = self._mirror or isinstance(copy, str)
                if not (is_remote and self.copies.has(copy, record.get("pictures", {}).get(target.path.name))):
                    if self._mirror and not target.path.exists():
                        self._mirror.fetch(target.path.name)
                    self.copies.write(target.path, copy)
            published += target.copies or [self.kept(target)]
            if self._mirror:
                # Sent and copied: here it would only fill the disk.
                self._mirror.remove_here(target.path.name)
        return published

    def _is_ours(self, target: Target, known: Mapping[str, Any], style: str | None = None) -> bool:
        """Whether the picture in the directory is the one that the record tells of, and of that style."""
        entry = known.get(target.path.name)
        if entry is None or style not in (None, entry["style"]):
            return False
        if self._mirror:
            return entry.get("sending", False) or self._mirror.knows_picture(target.path.name, entry.get("stored"))
        if not target.path.exists():
            return False
        return picture_sha256(target.path) == entry["sha256"]

    def make_room(self, target: Target) -> None:
        """Makes ready for a picture in the directory: one that an older version left without a marker gets its own."""
        entry = self._reading().record.get("pictures", {}).get(target.path.name)
        if self._is_tree(target) and not self._mirror and entry is not None:
            adopt(target.path, entry["sha256"], self.digest)

    def check_exported(self) -> None:
        """Raises `UserError` where a finished canvas cannot be exported into the directory."""
        if not self._mirror:
            refuse_links(self.path, *_OURS)
            if not is_writable(self.path):
                raise UserError(f"run={self.path} cannot be written to: output.path=FILE writes elsewhere")

    @staticmethod
    def _is_tree(target: Target) -> bool:
        return target.panels or FORMATS[target.form].directory

    def lies(self, target: Target) -> bool:
        """Whether anything has a picture's name."""
        return self._mirror.has(target.path.name) if self._mirror else os.path.lexists(target.path)

    def start_record(self, **facts: Any) -> None:
        """Begins `run.json` with the whole config, versions and the given facts, or goes on with it."""
        self.record = {
            **opening(self._reading().record, _VERSIONED),
            "digest": self.digest,
            "picture": self.picture.name,
            # Until this run has pictures of its own, those that it is to replace stay and are known.
            "pictures": self._pictures,
            "config": asdict(self._config),
            "identity": self.identity,
            **({"copies": copies} if (copies := self.copies.stored) else {}),
            **facts,
        }
        self.save()

    def reopen_record(self) -> None:
        """Goes on with the record of a run that is finished; one that was lost is written anew."""
        reading = self._reading()
        self.record = dict(reading.record)
        if reading.is_kept and self._is_held:
            self.save()

    def save(self, **facts: Any) -> None:
        """Adds facts to `run.json`, replacing the file as a whole. Before `start_record`, does nothing."""
        if not self.record:
            return
        self.record |= facts
        try:
            write_durably(self.path / RECORD, (json.dumps(self.record, indent=1) + "\n").encode())
        except OSError as error:
            raise UserError(f"{self.path / RECORD} cannot be written ({error.strerror}): free some space") from None
        if self._mirror:
            self._mirror.send(RECORD)
            self._mirror.send(_LOG)

    def write_preview(self, octave: int, pixels: np.ndarray) -> None:
        """Keeps a small picture of an octave: `previews/octave-N.png`, counted from 1."""
        path = preview_path(self.path, octave)
        write_picture(path, image_of(pixels), "png")
        if self._mirror:
            self._mirror.send(path.relative_to(self.path).as_posix())

    def _reading(self) -> Reading:
        """The record of the run that lies here, as far as it can be read."""
        return read_run(self.place)

    def _differences(self, old: Mapping[str, Any]) -> str:
        """The settings in which the run that lies here differs."""
        settings = dotted(asdict(self._config)) | self.identity
        # Older records do not say it.
        old_settings = {_PRECISION: ModelConfig.precision} | dotted(old["config"]) | old.get("identity", {})
        relevant = dotted(self._config.canvas_settings()).keys() | self.identity.keys() | {_PRECISION}
        keys = [key for key in sorted(relevant) if settings.get(key) != old_settings.get(key)]
        return "differs in " + ", ".join(keys) if keys else "of another version of the program"

    def _clear(self) -> None:
        """Removes what a run left that is not gone on with: canvas, previews, log and record. The picture stays."""
        has_record = bool(self._reading().record)
        self.checkpoints.discard()
        discard_levels(self.levels)
        if self._mirror:
            previews = [f"{PREVIEWS}/{name}" for name in self._mirror.children(PREVIEWS) if _PREVIEW.fullmatch(name)]
            self._mirror.drop(RECORD, _LOG, PROGRESS, *previews)
        for preview in (self.path / PREVIEWS).glob("octave-*.png"):
            if _PREVIEW.fullmatch(preview.name):
                preview.unlink()
        if has_record or self._mirror:
            (self.path / _LOG).unlink(missing_ok=True)
            (self.path / RECORD).unlink(missing_ok=True)
        elif (self.path / RECORD).exists():
            # Nothing proves that it was a run's.
            (self.path / RECORD).replace(self.path / _UNREADABLE)


def stored_checkpoints(directory: Place) -> Checkpoints:
    """The checkpoints of the run in a directory or at a URL."""
    return Checkpoints(joined(directory, CANVAS))
