"""A run's directory: who may use it, its log, its previews and its record `run.json`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from render.canvas.store import CanvasStore
from render.config import Config, OutputConfig, dotted, named_files, pictures
from render.errors import UserError
from render.export.directory import is_picture, replacing_directory, tree_sha256
from render.export.picture import image_of, replacing, write_picture
from render.farm.checkpoint import Checkpoint, Checkpoints, Fixed
from render.formats import FORMATS
from render.locking import LOCK, lock_directory
from render.logs import log_to, opening
from render.machine import nearest
from render.paths import file_sha256, user_path
from render.source.pyramid import discard_levels

_RECORD, _LOG, _PREVIEWS, _CANVAS, _SOURCE = "run.json", "render.log", "previews", "canvas", "source"
_VERSIONED = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "pyvips", "hydra-core")


@dataclass(frozen=True)
class Target:
    """A picture to be made as `form` at `path`, in the run directory, with copies for `copies`.

    With `panels` it is a directory of the picture's parts.
    """

    form: str
    path: Path
    copies: tuple[Path, ...] = ()
    panels: bool = False


class RunDirectory:
    """The directory of one run and what lies in it. Nothing that another run or the user put there is written over.

    Finished pictures always lie in the directory; `output.path` and paths in `output.also` get copies.
    """

    def __init__(self, config: Config, identity: Mapping[str, str | None]) -> None:
        """`identity` tells image, weights, objective and program apart where the settings' words do not."""
        self._config = config
        #: What tells the job apart where its settings' words do not.
        self.identity = dict(identity)
        self.digest = config.digest(identity)
        output = config.output
        default = Path("dreams") / f"{config.name}-{self.digest[:8]}"
        self.path = user_path(output.dir, "output.dir") if output.dir else default
        #: The pictures that the config asks for, the one of `output.format` first.
        self.targets = targets(self.path, config.name, output)
        self.checkpoints = Checkpoints(self.path / _CANVAS)
        #: Where a source that is larger than memory keeps itself.
        self.levels = self.path / _SOURCE
        self.record: dict[str, Any] = {}
        #: What is known of the pictures that lie here, by name.
        self._pictures: dict[str, Any] = {}
        # Checksums of pictures that runs in this directory made: copies of those may be replaced.
        self._made: set[str] = set()

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

    def moved(self, path: Path) -> RunDirectory:
        """The directory of the same job at another place."""
        return RunDirectory(replace(self._config, output=replace(self._config.output, dir=str(path))), self.identity)

    def is_finished(self) -> bool:
        """Whether this very canvas lies here already, finished."""
        old = self._old_record()
        finished = old.get("digest") == self.digest and old.get("status") == "finished"
        return finished and not self._config.fresh and self.newest() is not None

    def newest(self) -> Checkpoint | None:
        """The checkpoint that counts; None where there is none."""
        read = self.checkpoints.read()
        return read[1][0] if read and read[1] else None

    def canvas(self) -> CanvasStore:
        """The canvas of the newest checkpoint; `UserError` where there is none, `DamagedCheckpoint` for a bad one."""
        newest = self.newest()
        if newest is None:
            raise UserError(f"{self.path} holds no canvas yet")
        return CanvasStore(self.checkpoints.path(newest), newest.token)

    def missing(self, style: str) -> list[Target]:
        """The pictures that do not lie here yet as `style`, a digest of all that decides their bytes, would have them."""
        known = self._old_record().get("pictures", {})
        return [target for target in self.targets if not self._is_ours(target, known, style)]

    def unfinished(self) -> Fixed | None:
        """What an interrupted run of this very job left to go on from; None where there is nothing, or it is not wanted."""
        if self._config.fresh or self._old_record().get("digest") != self.digest:
            return None
        return self.fixed()

    def fixed(self) -> Fixed | None:
        """What the checkpoints here have in common; None where there are none of this job."""
        read = self.checkpoints.read()
        return read[0] if read and read[1] and read[0].digest == self.digest else None

    def check(self) -> None:
        """Raises `UserError` where the run would meet or replace what is not its own, or cannot write. Changes nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"output.dir={self.path} is a file: name a directory")
        old = self._old_record()
        if not old:
            ours = (_RECORD, _LOG, _PREVIEWS, _CANVAS, _SOURCE, *(target.path.name for target in self.targets))
            foreign = [name for name in ours if os.path.lexists(self.path / name)]
            # Whoever takes the lock makes the log first: a run that was killed, or a full disk, may have left it at that.
            if foreign and not (foreign == [_LOG] and (self.path / LOCK).exists()):
                raise UserError(f"{self.path} holds a {foreign[0]} that no run made: choose another output.dir")
        elif old.get("digest") != self.digest and not self._config.fresh:
            raise UserError(
                f"{self.path} holds another run ({self._differences(old)}): choose another output.dir, or fresh=true to "
                "replace it"
            )
        known = old.get("pictures", {})
        for target in self.targets:
            if os.path.lexists(target.path) and not self._is_ours(target, known) and not self._config.overwrite:
                raise UserError(f"{target.path} is not as the run left it: move it away, or overwrite=true to replace it")
        self._made |= {one["sha256"] for one in known.values()}
        copies = [copy for target in self.targets for copy in target.copies]
        for copy in copies:
            self._check_copy(copy)
        for directory in {self.path, *(copy.parent for copy in copies)}:
            place = nearest(directory)
            if not (place.is_dir() and os.access(place, os.W_OK)):
                raise UserError(f"{directory} cannot be written to: choose another output.dir or output.path")

    def refuse_busy(self) -> None:
        """Raises `UserError` where another run holds the directory: asked early, before a farm is started for nothing."""
        if (self.path / LOCK).exists():
            self._lock().release()

    def _lock(self) -> FileLock:
        return lock_directory(self.path, "a run that is still going")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Holds the directory for this process, with the log attached; on the way out the record says how it ended."""
        lock = self._lock()
        try:
            # Again, now that nobody else can: another run may have come and gone since.
            self.check()
            self._pictures = self._old_record().get("pictures", {})
            if self.unfinished() is None:
                self._clear()
            with log_to(self.path / _LOG, self._broken_off, json_of=self.run_id if self._config.log == "json" else None):
                yield
        finally:
            lock.release()

    def _broken_off(self, **facts: Any) -> None:
        if self.record.get("status") != "finished":
            self.save(**facts)

    def add_picture(self, target: Target, style: str) -> None:
        """Records a picture that now lies in the directory."""
        known = {**self.record.get("pictures", {}), target.path.name: {"sha256": _sha256(target.path), "style": style}}
        self.save(pictures=known)

    def publish(self) -> list[Path]:
        """Copies finished pictures to where the config wants them; returns where they are, copies instead of originals.

        Raises `UserError` when one cannot be copied; the picture in the run directory stays in any case.
        """
        self._made |= {one["sha256"] for one in self._old_record().get("pictures", {}).values()}
        published: list[Path] = []
        for target in self.targets:
            for copy in target.copies:
                self._copy(target.path, copy)
            published += target.copies or [target.path]
        return published

    def _copy(self, picture: Path, copy: Path) -> None:
        replaceable = self._check_copy(copy)
        try:
            if picture.is_dir():
                with replacing_directory(copy) as directory:
                    shutil.copytree(picture, directory, dirs_exist_ok=True)
                return
            with picture.open("rb") as file, replacing(copy, keep=not replaceable) as written:
                shutil.copyfileobj(file, written)
        except FileExistsError:
            raise UserError(f"{copy} exists by now and is left alone: the picture is {picture}") from None
        except OSError as error:
            raise UserError(f"{copy} cannot be written ({error.strerror}): the picture is {picture}") from None

    def _check_copy(self, copy: Path) -> bool:
        """Whether what has the name of a copy may be replaced; refuses an input, or what is somebody else's."""
        config = self._config
        if not copy.exists():
            return config.overwrite
        if copy.is_dir() and not any(FORMATS[target.form].directory for target in self.targets if copy in target.copies):
            raise UserError(f"output.path={copy} is a directory: name a file")
        if copy.is_dir() and not is_picture(copy):
            raise UserError(f"{copy} is a directory of other things, which is never replaced: choose another output.path")
        inputs = [("image", config.image), ("model.weights", config.model.weights), *named_files(asdict(config.objective))]
        for key, name in inputs:
            if name and Path(name).expanduser().exists() and copy.samefile(Path(name).expanduser()):
                raise UserError(f"output.path={copy} is the {key} itself: choose another output.path")
        if not config.overwrite and _sha256(copy) not in self._made:
            raise UserError(f"{copy} exists: choose another output.path, or overwrite=true to replace it")
        return True

    def _is_ours(self, target: Target, known: Mapping[str, Any], style: str | None = None) -> bool:
        """Whether the picture in the directory is the one that the record tells of, and of that style."""
        one = known.get(target.path.name)
        if one is None or not target.path.exists() or style not in (None, one["style"]):
            return False
        return _sha256(target.path) == one["sha256"]

    def start_record(self, **facts: Any) -> None:
        """Begins `run.json` with the whole config, versions and the given facts, or goes on with it."""
        self.record = {
            **opening(self._old_record(), _VERSIONED),
            "digest": self.digest,
            "picture": self.picture.name,
            # Until this run has pictures of its own, those that it is to replace stay and are known.
            "pictures": self._pictures,
            "config": asdict(self._config),
            "identity": self.identity,
            **facts,
        }
        self.save()

    def reopen_record(self) -> None:
        """Goes on with the record of a run that is finished."""
        self.record = self._old_record()

    def save(self, **facts: Any) -> None:
        """Adds facts to `run.json`, replacing the file as a whole. Before `start_record`, does nothing."""
        if not self.record:
            return
        self.record |= facts
        temporary = self.path / f".{_RECORD}.partial"
        try:
            temporary.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.path / _RECORD)
        except OSError as error:
            raise UserError(f"{self.path / _RECORD} cannot be written ({error.strerror}): free some space") from None

    def write_preview(self, octave: int, pixels: np.ndarray) -> None:
        """Keeps a small picture of an octave: `previews/octave-N.png`, counted from 1."""
        write_picture(preview_path(self.path, octave), image_of(pixels), "png")

    def _old_record(self) -> dict[str, Any]:
        """The record of the run that lies here; empty where there is none."""
        return read_record(self.path)

    def _differences(self, old: Mapping[str, Any]) -> str:
        """The settings in which the run that lies here differs."""
        mine = dotted(asdict(self._config)) | self.identity
        theirs = dotted(old["config"]) | old.get("identity", {})
        relevant = dotted(self._config.canvas_settings()).keys() | self.identity.keys()
        keys = [key for key in sorted(relevant) if mine.get(key) != theirs.get(key)]
        return "differs in " + ", ".join(keys)

    def _clear(self) -> None:
        """Removes what a run left that is not gone on with: canvas, previews, log and record. The picture stays."""
        self.checkpoints.discard()
        discard_levels(self.levels)
        previews = self.path / _PREVIEWS
        for preview in previews.glob("octave-*.png"):
            preview.unlink()
        (self.path / _LOG).unlink(missing_ok=True)
        (self.path / _RECORD).unlink(missing_ok=True)


def read_record(directory: Path) -> dict[str, Any]:
    """The record of the run in a directory; empty where there is none."""
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"digest", "status", "config"} <= record.keys() else {}


def planned_steps(record: Mapping[str, Any]) -> list[int]:
    """How many steps a run's record plans for each octave; older records have them beside the grid."""
    octaves = record.get("plan", {}).get("octaves", [])
    return [int(octave.get("stage", octave)["steps"]) for octave in octaves]


def targets(directory: Path, name: str, output: OutputConfig) -> tuple[Target, ...]:
    """The pictures that an output section asks for, that of `output.format` first; copies by format."""
    made = [
        Target(form, directory / f"{name}{FORMATS[form].ending}", tuple(_place(path, form) for path in paths))
        for form, paths in pictures(output).items()
    ]
    if output.panels.width_cm or output.panels.height_cm:
        made.append(Target(made[0].form, directory / f"{name}-panels", panels=True))
    return tuple(made)


def _place(path: str, form: str) -> Path:
    """Where a copy goes. A deep zoom picture is a directory, named without the suffix."""
    named = user_path(path, "output.path")
    # A link is followed: what it points to gets the picture, the link stays.
    return Path(os.path.realpath(named.with_suffix("") if form == "dzi" else named))


def _sha256(path: Path) -> str:
    return tree_sha256(path) if path.is_dir() else file_sha256(path)


def stored_checkpoints(directory: Path) -> Checkpoints:
    """The checkpoints of the run in a directory."""
    return Checkpoints(directory / _CANVAS)


def preview_path(directory: Path, octave: int) -> Path:
    """Where the small picture of an octave lies, counted from 0 here and from 1 in its name."""
    return directory / _PREVIEWS / f"octave-{octave + 1}.png"
