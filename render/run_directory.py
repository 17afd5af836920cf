"""A run's directory: who may use it, its log, its previews and its record `run.json`."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from render import __version__
from render.canvas.picture import write_picture
from render.config import Config, picture_format
from render.errors import UserError

_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_RECORD, _LOG, _PREVIEWS, _LOCK = "run.json", "render.log", "previews", ".lock"
_VERSIONED = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "pyvips", "hydra-core")


class RunDirectory:
    """The directory of one run and what lies in it. Nothing of another run is ever written over."""

    def __init__(self, config: Config, image_sha256: str, objective: str) -> None:
        self._config = config
        self.digest = config.digest(image_sha256, objective)
        chosen = config.output.dir
        self.path = Path(chosen).expanduser() if chosen else Path("dreams") / f"{config.name}-{self.digest[:8]}"
        named = config.output.path
        suffix = _SUFFIXES[picture_format(config.output)]
        self.picture = Path(named).expanduser() if named else self.path / f"{config.name}{suffix}"
        self.record: dict[str, Any] = {}
        self._image_sha256 = image_sha256
        self._objective = objective

    def is_finished(self) -> bool:
        """Whether this very picture lies here already, finished."""
        old = self._old_record()
        return (
            not self._config.fresh
            and old.get("digest") == self.digest
            and old.get("status") == "finished"
            and old.get("picture") == str(self.picture)
            and self.picture.exists()
        )

    def check(self) -> None:
        """Raises `UserError` where the run would meet or replace what is not its own, or cannot write."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"output.dir={self.path} is a file: name a directory")
        old = self._old_record()
        if old and old.get("digest") != self.digest and not self._config.fresh:
            raise UserError(
                f"{self.path} holds another run ({self._differences(old)}): choose another output.dir, or fresh=true to "
                "replace it"
            )
        if self.picture.is_dir():
            raise UserError(f"output.path={self.picture} is a directory: name a file")
        ours = old.get("picture") == str(self.picture)
        if self.picture.exists() and not self._config.overwrite and not ours:
            raise UserError(f"{self.picture} exists: choose another output.path, or overwrite=true to replace it")
        for directory in (self.path, self.picture.parent):
            _require_writable(directory)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Holds the directory for this process, with the log attached; on the way out the record says how it ended."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path} belongs to a run that is still going: wait for it or choose another output.dir"
            ) from None
        handler = None
        try:
            self._clear()
            handler = logging.FileHandler(self.path / _LOG, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logging.getLogger("render").addHandler(handler)
            yield
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self.save(status="interrupted" if interrupted else "failed", error=str(error) or type(error).__name__)
            logging.getLogger(__name__).error("%s: %s", type(error).__name__, error)
            raise
        finally:
            if handler is not None:
                logging.getLogger("render").removeHandler(handler)
                handler.close()
            lock.release()

    def start_record(self, **facts: Any) -> None:
        """Begins `run.json` with the whole config, versions and the given facts."""
        self.record = {
            "status": "running",
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "digest": self.digest,
            "picture": str(self.picture),
            "config": asdict(self._config),
            "image_sha256": self._image_sha256,
            "objective": self._objective,
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
        path = self.path / _RECORD
        if not path.exists():
            return {}
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(f"{path} cannot be read: choose another output.dir, or remove the file") from None
        return record if isinstance(record, dict) else {}

    def _differences(self, old: Mapping[str, Any]) -> str:
        """The settings in which the run that lies here differs."""
        mine = _flat(asdict(self._config)) | {"image content": self._image_sha256, "objective": self._objective}
        theirs = _flat(old.get("config", {})) | {
            "image content": old.get("image_sha256"),
            "objective": old.get("objective"),
        }
        relevant = _flat(self._config.picture_settings()).keys() | {"image content", "objective"}
        keys = [key for key in sorted(relevant) if mine.get(key) != theirs.get(key)]
        return "differs in " + ", ".join(keys) if keys else "made by another version"

    def _clear(self) -> None:
        """Removes what an unfinished or replaced run left: its previews, log and record."""
        shutil.rmtree(self.path / _PREVIEWS, ignore_errors=True)
        for name in (_RECORD, _LOG):
            (self.path / name).unlink(missing_ok=True)


def free_disk(path: Path) -> int:
    """Free bytes on the disk that holds `path` or will."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _require_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{directory} cannot be written to ({error.strerror}): choose another output.dir") from None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
