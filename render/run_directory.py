"""A run's directory: who may use it, its log, its previews and its record `run.json`."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from render import __version__
from render.canvas.picture import replacing, write_picture
from render.config import Config, picture_format
from render.errors import UserError
from render.farm.checkpoint import Checkpoints, Fixed
from render.machine import nearest
from render.paths import file_sha256, user_path

_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_RECORD, _LOG, _PREVIEWS, _CANVAS, _LOCK = "run.json", "render.log", "previews", "canvas", ".lock"
_VERSIONED = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "pyvips", "hydra-core")


class RunDirectory:
    """The directory of one run and what lies in it. Nothing that another run or the user put there is written over.

    The finished picture always lies in the directory; `output.path`, where one is given, gets a copy.
    """

    def __init__(self, config: Config, identity: Mapping[str, str | None]) -> None:
        """`identity` tells image, weights, objective and program apart where the settings' words do not."""
        self._config = config
        self._identity = dict(identity)
        self.digest = config.digest(identity)
        output = config.output
        default = Path("dreams") / f"{config.name}-{self.digest[:8]}"
        self.path = user_path(output.dir, "output.dir") if output.dir else default
        self.picture = self.path / f"{config.name}{_SUFFIXES[picture_format(output)]}"
        # A link is followed: what it points to gets the picture, the link stays.
        self.copy = Path(os.path.realpath(user_path(output.path, "output.path"))) if output.path else None
        self.checkpoints = Checkpoints(self.path / _CANVAS)
        self.record: dict[str, Any] = {}
        # Checksums of pictures that runs in this directory made: copies of those may be replaced.
        self._made: set[str | None] = set()

    def is_finished(self) -> bool:
        """Whether this very picture lies here already, finished and untouched."""
        old = self._old_record()
        finished = old.get("digest") == self.digest and old.get("status") == "finished"
        return finished and not self._config.fresh and self._is_ours(old)

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
            foreign = [
                name for name in (_RECORD, _LOG, _PREVIEWS, _CANVAS, self.picture.name) if os.path.lexists(self.path / name)
            ]
            if foreign:
                raise UserError(f"{self.path} holds a {foreign[0]} that no run made: choose another output.dir")
        elif old.get("digest") != self.digest and not self._config.fresh:
            raise UserError(
                f"{self.path} holds another run ({self._differences(old)}): choose another output.dir, or fresh=true to "
                "replace it"
            )
        elif os.path.lexists(self.picture) and not self._is_ours(old) and not self._config.overwrite:
            raise UserError(f"{self.picture} is not as the run left it: move it away, or overwrite=true to replace it")
        self._made.add(old.get("picture_sha256"))
        self._check_copy()
        for directory in {self.path, (self.copy or self.picture).parent}:
            place = nearest(directory)
            if not (place.is_dir() and os.access(place, os.W_OK)):
                raise UserError(f"{directory} cannot be written to: choose another output.dir or output.path")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Holds the directory for this process, with the log attached; on the way out the record says how it ended."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / _LOCK)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path} belongs to a run that is still going: wait for it or choose another output.dir"
            ) from None
        except OSError as error:
            raise UserError(f"{self.path} cannot be written to ({error.strerror}): choose another output.dir") from None
        handler = None
        try:
            # Again, now that nobody else can: another run may have come and gone since.
            self.check()
            if self.unfinished() is None:
                self._clear()
            handler = logging.FileHandler(self.path / _LOG, encoding="utf-8", errors="backslashreplace")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logging.getLogger("render").addHandler(handler)
            yield
        except BaseException as error:
            logging.getLogger("render.run").error("%s: %s", type(error).__name__, error)
            interrupted = isinstance(error, KeyboardInterrupt)
            # Where the disk is full the record cannot say it: the error itself is what the user must read.
            with suppress(UserError):
                self.save(status="interrupted" if interrupted else "failed", error=str(error) or type(error).__name__)
            raise
        finally:
            if handler is not None:
                logging.getLogger("render").removeHandler(handler)
                handler.close()
            lock.release()

    def finish(self, **facts: Any) -> None:
        """Records the picture that now lies in the directory, and that the run is over."""
        self.save(status="finished", picture_sha256=file_sha256(self.picture), **facts)

    def publish(self) -> Path:
        """Copies the finished picture to `output.path`, where one is given; returns where the picture is.

        Raises `UserError` when it cannot; the picture in the run directory stays in any case.
        """
        if self.copy is None:
            return self.picture
        self._made.add(self._old_record().get("picture_sha256"))
        replaceable = self._check_copy()
        try:
            with self.picture.open("rb") as picture, replacing(self.copy, keep=not replaceable) as file:
                shutil.copyfileobj(picture, file)
        except FileExistsError:
            raise UserError(f"{self.copy} exists by now and is left alone: the picture is {self.picture}") from None
        except OSError as error:
            raise UserError(f"{self.copy} cannot be written ({error.strerror}): the picture is {self.picture}") from None
        return self.copy

    def _check_copy(self) -> bool:
        """Whether a file at `output.path` may be replaced; refuses a directory, an input, or somebody else's file."""
        copy, config = self.copy, self._config
        if copy is None or not copy.exists():
            return config.overwrite
        if copy.is_dir():
            raise UserError(f"output.path={copy} is a directory: name a file")
        for key, name in (("image", config.image), ("model.weights", config.model.weights)):
            if name and Path(name).expanduser().exists() and copy.samefile(Path(name).expanduser()):
                raise UserError(f"output.path={copy} is the {key} itself: choose another output.path")
        if not config.overwrite and file_sha256(copy) not in self._made:
            raise UserError(f"{copy} exists: choose another output.path, or overwrite=true to replace it")
        return True

    def _is_ours(self, old: Mapping[str, Any]) -> bool:
        """Whether the picture in the directory is the one that the record tells of."""
        return self.picture.is_file() and file_sha256(self.picture) == old.get("picture_sha256")

    def start_record(self, **facts: Any) -> None:
        """Begins `run.json` with the whole config, versions and the given facts, or goes on with it."""
        old, now = self._old_record(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.record = {
            "status": "running",
            "started": old.get("started", now),
            "resumed": [*old.get("resumed", []), now] if old else [],
            "digest": self.digest,
            "picture": self.picture.name,
            # Until this run has a picture of its own, one that it is to replace stays and is known.
            "picture_sha256": file_sha256(self.picture) if self.picture.is_file() else None,
            "config": asdict(self._config),
            "identity": self._identity,
            "versions": {"render": __version__, "python": platform.python_version()}
            | {name: version(name) for name in _VERSIONED},
            **facts,
        }
        self.save()

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
        write_picture(self.path / _PREVIEWS / f"octave-{octave + 1}.png", pixels, "png")

    def _old_record(self) -> dict[str, Any]:
        """The record of the run that lies here; empty where there is none."""
        try:
            text = (self.path / _RECORD).read_text(encoding="utf-8")
            record = json.loads(text)
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) and {"digest", "status", "config"} <= record.keys() else {}

    def _differences(self, old: Mapping[str, Any]) -> str:
        """The settings in which the run that lies here differs."""
        mine = _flat(asdict(self._config)) | self._identity
        theirs = _flat(old["config"]) | old.get("identity", {})
        relevant = _flat(self._config.picture_settings()).keys() | self._identity.keys()
        keys = [key for key in sorted(relevant) if mine.get(key) != theirs.get(key)]
        return "differs in " + ", ".join(keys)

    def _clear(self) -> None:
        """Removes what a run left that is not gone on with: canvas, previews, log and record. The picture stays."""
        self.checkpoints.discard()
        previews = self.path / _PREVIEWS
        for preview in previews.glob("octave-*.png"):
            preview.unlink()
        (self.path / _LOG).unlink(missing_ok=True)
        (self.path / _RECORD).unlink(missing_ok=True)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
