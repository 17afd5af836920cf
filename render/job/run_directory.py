"""A run's directory, on a disk or in an object store: its lock, its log, its previews and its record `run.json`."""

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
from render.farm.checkpoint import Checkpoint, Checkpoints, ResumeKey
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
#: New name of an unreadable record where a run starts over.
_UNREADABLE = f"{RECORD}.unreadable"
#: Names that a run writes in its directory, pictures excepted.
_OURS = (RECORD, _LOG, PREVIEWS, CANVAS, _SOURCE)
#: A canvas setting that older records lack; they used its default.
_PRECISION = "model.precision"
_VERSIONED = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "pyvips", "hydra-core")


class RunDirectory:
    """The directory of one run and its files. Files of other runs or of the user are never overwritten.

    Finished pictures always lie in the directory; `output.path` and paths in `output.also` get copies. Where the directory
    is a URL, `path` is its mirror on this machine, which holds what must be files.
    """

    def __init__(self, config: Config, identity: Mapping[str, str | None], digest: str | None = None) -> None:
        """Resolve the directory's place and targets; nothing is read or written.

        Args:
            config: The job's config.
            identity: Facts of image, weights, objective and program that distinguish jobs with equal settings.
            digest: Digest of an existing canvas, used instead of the config's own digest.
        """
        self._config = config
        #: Facts that distinguish jobs with equal settings.
        self.identity = dict(identity)
        self.digest = digest or config.digest(identity)
        output = config.output
        default = Path("dreams") / f"{config.name}-{self.digest[:8]}"
        url = checked_url(output.dir, "output.dir") if output.dir else None
        self._mirror: Mirror | None = None
        if url is not None:
            # Imported late: runs on disk need not wait for the client of object stores.
            from render.storage.mirror import Mirror

            self._mirror = Mirror(url)
        self.path = self._mirror.path if self._mirror else user_path(output.dir, "output.dir") if output.dir else default
        #: Place of the run: `path`, or the URL.
        self.place: Place = url or self.path
        #: The pictures that the config asks for, that of `output.format` first.
        self.targets = targets(self.path, config.name, output)
        self.checkpoints = Checkpoints(joined(self.place, CANVAS), self._confirm_held)
        #: Place of the stored levels of a source that is larger than memory.
        self.levels = joined(self.place if self._mirror else self.path.absolute(), _SOURCE)
        self.record: dict[str, Any] = {}
        self._is_held = False
        #: Recorded entries of the pictures that lie here, by name.
        self._pictures: dict[str, Any] = {}
        self.copies = Copies(config, self.digest, lambda: self.record or self._reading().record, self.save)
        self.checkpoints.about = lambda: kept_facts(self.record)

    @property
    def run_id(self) -> str:
        """Name of the run in logs and metrics: the directory's name, with the first digits of the digest."""
        name = Path(self._config.output.dir or self.path).name or self._config.name
        mark = self.digest[:8]
        return name if name.endswith(mark) else f"{name}-{mark}"

    @property
    def picture(self) -> Path:
        """The picture of `output.format`."""
        return self.targets[0].path

    def kept(self, target: Target) -> Place:
        """Return the place of a picture in the run directory."""
        return joined(self.place, target.path.name) if self._mirror else target.path

    def moved(self, path: Path) -> RunDirectory:
        """Return the directory of the same job at another place."""
        return RunDirectory(replace(self._config, output=replace(self._config.output, dir=str(path))), self.identity)

    def is_finished(self) -> bool:
        """Return whether the canvas of this very job lies here, finished."""
        record = self._reading().record
        finished = record.get("digest") == self.digest and record.get("status") == "finished"
        return finished and not self._config.fresh and self.newest() is not None

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint; None where there is none."""
        manifest = self.checkpoints.read()
        return manifest[1][0] if manifest and manifest[1] else None

    def canvas(self) -> CanvasStore:
        """Return the canvas of the newest checkpoint.

        Raises:
            UserError: There is no checkpoint.
            DamagedCheckpoint: The checkpoint is bad.
        """
        newest = self.newest()
        if newest is None:
            raise UserError(f"{self.place} holds no canvas yet")
        return CanvasStore(self.checkpoints.path(newest), newest.token)

    def missing(self, style: str) -> list[Target]:
        """Return the pictures that do not lie here yet in this style, a digest of all that decides their bytes."""
        entries = self._reading().record.get("pictures", {})
        return [target for target in self.targets if not self._is_ours(target, entries, style)]

    def unfinished(self) -> ResumeKey | None:
        """Return the fixed values of an interrupted run of this job; None if there is none or `fresh` is set."""
        if self._config.fresh or self._reading().record.get("digest") != self.digest:
            return None
        return self.fixed()

    def fixed(self) -> ResumeKey | None:
        """Return the fixed values that the checkpoints of this job share; None where there are none."""
        manifest = self.checkpoints.read()
        return manifest[0] if manifest and manifest[1] and manifest[0].digest == self.digest else None

    def check(self) -> None:
        """Raise `UserError` where the run would collide with or replace foreign files, or cannot write. Changes nothing.

        One exception: an object store is probed with an object, which is removed again.
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
        """Do what `check` does where there is no record: the checkpoints may still say which run lies here."""
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
        # A run that takes the lock makes the log first: if it was killed, or the disk was full, there may be nothing else.
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
        """Raise `UserError` where a run would replace a picture in the directory that is not the recorded one."""
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
        """Raise `UserError` where another run holds the directory. Call it before a farm is started."""
        if self._mirror:
            self._mirror.refuse_busy()
        elif (self.path / LOCK).exists():
            self._lock().release()

    def _lock(self) -> FileLock:
        return lock_directory(self.path, "a run that is still going")

    @contextmanager
    def opened(self, *, begins: bool = True) -> Iterator[None]:
        """Hold the directory for this process, with the log attached; at the end the record says how the run ended.

        With `begins`, files that cannot be continued are removed so that a run can begin.
        """
        with self._held():
            self._is_held = True
            # Again, now under the lock: another run may have changed the directory since the first check.
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
                    # If the store no longer answers, the user must see the original error.
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
        """Raise `Overtaken` where another process has taken the run, as it may while this one is unreachable."""
        if self._mirror:
            self._mirror.check()

    def _confirm_held(self) -> None:
        if self._mirror:
            self._mirror.confirm()

    def tell(self, name: str, data: bytes | None) -> None:
        """Send progress data for readers on other machines; None means that there is none any more."""
        if self._mirror:
            self._mirror.tell(name, data)

    def _broken_off(self, **facts: Any) -> None:
        if self.record.get("status") != "finished":
            self.save(**facts)

    def add_picture(self, target: Target, style: str) -> None:
        """Record a picture that now lies in the directory."""
        entries = self.record.get("pictures", {})
        entry: dict[str, Any] = {"sha256": picture_sha256(target.path), "style": style}
        if self._mirror:
            # If the run is killed while sending, its next start knows the partial picture as its own.
            self.save(pictures={**entries, target.path.name: {**entry, "style": "", "sending": True}})
            entry["stored"] = self._mirror.send_picture(target.path)
        self.save(pictures={**entries, target.path.name: entry})

    def hand_over(self, target: Target) -> None:
        """Send a picture that is not part of the record to the run's place."""
        if self._mirror:
            self._mirror.send_picture(target.path)

    def publish(self) -> list[Place]:
        """Copy finished pictures to where the config wants them; return their places, copies instead of originals.

        Raises `UserError` where one cannot be copied; the picture in the run directory stays in any case.
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
                # Sent and copied: in the mirror it would only fill the disk.
                self._mirror.remove_here(target.path.name)
        return published

    def _is_ours(self, target: Target, known: Mapping[str, Any], style: str | None = None) -> bool:
        """Return whether the picture in the directory is the recorded one, and of this style if one is given."""
        entry = known.get(target.path.name)
        if entry is None or style not in (None, entry["style"]):
            return False
        if self._mirror:
            return entry.get("sending", False) or self._mirror.knows_picture(target.path.name, entry.get("stored"))
        if not target.path.exists():
            return False
        return picture_sha256(target.path) == entry["sha256"]

    def make_room(self, target: Target) -> None:
        """Prepare the place of a picture: a directory that an older version left without a marker gets one."""
        entry = self._reading().record.get("pictures", {}).get(target.path.name)
        if self._is_tree(target) and not self._mirror and entry is not None:
            adopt(target.path, entry["sha256"], self.digest)

    def check_exported(self) -> None:
        """Raise `UserError` where a finished canvas cannot be exported into the directory."""
        if not self._mirror:
            refuse_links(self.path, *_OURS)
            if not is_writable(self.path):
                raise UserError(f"run={self.path} cannot be written to: output.path=FILE writes elsewhere")

    @staticmethod
    def _is_tree(target: Target) -> bool:
        return target.panels or FORMATS[target.form].directory

    def lies(self, target: Target) -> bool:
        """Return whether anything has the picture's name."""
        return self._mirror.has(target.path.name) if self._mirror else os.path.lexists(target.path)

    def start_record(self, **facts: Any) -> None:
        """Begin `run.json` with the whole config, versions and the given facts, or continue it."""
        self.record = {
            **opening(self._reading().record, _VERSIONED),
            "digest": self.digest,
            "picture": self.picture.name,
            # Until this run has pictures of its own, those that it will replace stay recorded.
            "pictures": self._pictures,
            "config": asdict(self._config),
            "identity": self.identity,
            **({"copies": copies} if (copies := self.copies.stored) else {}),
            **facts,
        }
        self.save()

    def reopen_record(self) -> None:
        """Continue the record of a finished run; a lost record is written again."""
        reading = self._reading()
        self.record = dict(reading.record)
        if reading.is_kept and self._is_held:
            self.save()

    def save(self, **facts: Any) -> None:
        """Add facts to `run.json`, replacing the file as a whole. Does nothing before `start_record`."""
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
        """Write a small picture of an octave, counted from 0, to `previews/octave-N.png`, counted from 1."""
        path = preview_path(self.path, octave)
        write_picture(path, image_of(pixels), "png")
        if self._mirror:
            self._mirror.send(path.relative_to(self.path).as_posix())

    def _reading(self) -> Reading:
        """Return the record of the run that lies here, as far as it can be read."""
        return read_run(self.place)

    def _differences(self, old: Mapping[str, Any]) -> str:
        """Return text about the settings in which the run that lies here differs."""
        settings = dotted(asdict(self._config)) | self.identity
        # Older records lack the precision.
        old_settings = {_PRECISION: ModelConfig.precision} | dotted(old["config"]) | old.get("identity", {})
        relevant = dotted(self._config.canvas_settings()).keys() | self.identity.keys() | {_PRECISION}
        keys = [key for key in sorted(relevant) if settings.get(key) != old_settings.get(key)]
        return "differs in " + ", ".join(keys) if keys else "of another version of the program"

    def _clear(self) -> None:
        """Remove the files of a run that is not continued: canvas, previews, log and record. The picture stays."""
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
            # It is kept because nothing proves that a run wrote it.
            (self.path / RECORD).replace(self.path / _UNREADABLE)


def stored_checkpoints(directory: Place) -> Checkpoints:
    """Return the checkpoints of the run in a directory or at a URL."""
    return Checkpoints(joined(directory, CANVAS))
