"""A run's directory as its job sees it.

RunDirectory
  home         RunHome: LocalHome or MirroredHome    place of the files, lock or lease, uploads
  checkpoints  Checkpoints                           the canvas, as far as it was saved
  recorder     RunRecorder                           the record `run.json`
  pictures     RunPictures                           finished pictures, and their copies elsewhere
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from render.canvas.store import CanvasStore
from render.config.schema import Config
from render.errors import StorageError, UserError
from render.export.picture import image_of, write_picture
from render.farm.checkpoint import Checkpoint, Checkpoints, ResumeKey
from render.job.local_home import LocalHome
from render.job.recorded_touches import discard_touches, earlier_touches
from render.job.run_conflicts import check_without_record, refuse_other_run
from render.job.run_home import LOG, RunHome
from render.job.run_pictures import RunPictures
from render.job.run_record import CANVAS, backup_facts
from render.job.run_recorder import RunRecorder
from render.job.targets import Target, preview_path, targets
from render.source.pyramid import discard_levels
from render.storage.url import Place, checked_url, joined
from render.storage.user_paths import user_path
from render.system.beginning import note_beginning
from render.system.logs import log_to


class RunDirectory:
    """The directory of one run and its files.

    Files of other runs or of the user are never overwritten.

    Its parts have a responsibility each; this class decides between them.

    Attributes:
        identity: Facts that distinguish jobs with equal settings.
        digest: Digest of the settings and facts that decide the canvas. Runs of equal digest are the same run.
        home: The place of the files, on a disk or in an object store.
        checkpoints: The canvas, as far as it was saved.
        pictures: The finished pictures and their copies.
    """

    def __init__(self, config: Config, identity: Mapping[str, str | None], digest: str | None = None) -> None:
        """Resolve the directory's place and pictures; nothing is read or written.

        Args:
            config: The job's config.
            identity: Facts of image, weights, objective and program that distinguish jobs with equal settings.
            digest: Digest of an existing canvas, used instead of the config's own digest.
        """
        self._config = config
        self.identity = dict(identity)
        self.digest = digest or config.digest(identity)
        self.home = _open_home(config, self.digest)
        self._recorder = RunRecorder(self.home)
        self._is_held = False
        #: Touches that the record has of a canvas that is gone: they can be done again.
        self._earlier_touches: Mapping[str, Any] = {}
        self.checkpoints = Checkpoints(joined(self.home.place, CANVAS), self.home.confirm_held)
        self.checkpoints.about = lambda: backup_facts(self.record)
        self.pictures = RunPictures(
            config, self.digest, targets(self.home.path, config.name, config.output), self.home, self._recorder
        )

    @property
    def path(self) -> Path:
        """Directory on this machine for what must be files."""
        return self.home.path

    @property
    def place(self) -> Place:
        """Place of the run: `path`, or the URL."""
        return self.home.place

    @property
    def targets(self) -> tuple[Target, ...]:
        """The pictures that the config asks for, that of `output.format` first."""
        return self.pictures.targets

    @property
    def picture(self) -> Path:
        """Path of the picture of `output.format`."""
        return self.targets[0].path

    @property
    def run_id(self) -> str:
        """Name of the run in logs and metrics.

        The directory's name, with the first digits of the digest.
        """
        name = Path(self._config.output.dir or self.path).name or self._config.name
        suffix = self.digest[:8]
        return name if name.endswith(suffix) else f"{name}-{suffix}"

    def moved(self, path: Path) -> RunDirectory:
        """Return the directory of the same job at another place."""
        return RunDirectory(replace(self._config, output=replace(self._config.output, dir=str(path))), self.identity)

    def is_finished(self) -> bool:
        """Return whether the canvas of this very job is there, finished."""
        record = self._recorder.read().record
        finished = record.get("digest") == self.digest and record.get("status") == "finished"
        return finished and not self._config.fresh and self.newest() is not None

    def unfinished(self) -> ResumeKey | None:
        """Return the values to resume an interrupted run of this job with.

        None if there is none or `fresh` is set.
        """
        if self._config.fresh or self._recorder.read().record.get("digest") != self.digest:
            return None
        return self.resume_key()

    def resume_key(self) -> ResumeKey | None:
        """Return the values that the checkpoints of this job share; None if there are none."""
        manifest = self.checkpoints.read()
        return (
            manifest.resume_key if manifest and manifest.checkpoints and manifest.resume_key.digest == self.digest else None
        )

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint; None if there is none."""
        manifest = self.checkpoints.read()
        return manifest.checkpoints[0] if manifest and manifest.checkpoints else None

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

    def check(self) -> None:
        """Raise `UserError` if the run would replace foreign files, or cannot write.

        Changes nothing.

        One exception: an object store is probed with an object, which is removed again.
        """
        self.home.check_usable()
        reading = self._recorder.read()
        record = reading.record
        fresh = self._config.fresh
        if not record:
            names = [target.path.name for target in self.targets]
            check_without_record(self.home, reading, self.checkpoints, self.digest, names, fresh=fresh)
        elif record["digest"] != self.digest and not fresh:
            refuse_other_run(self.home, record, self._config, self.identity)
        self.pictures.check(record)

    def refuse_busy(self) -> None:
        """Raise `UserError` if another process holds the directory.

        Call it before a farm is started.
        """
        self.home.refuse_busy()

    @contextmanager
    def opened(self, *, begins: bool = True) -> Iterator[None]:
        """Hold the directory for this process, with the log attached.

        At the end the record says how the run ended.

        With `begins`, files that cannot be continued are removed so that a run can begin.
        """
        with self.home.hold():
            self._is_held = True
            try:
                # Again, now that it is held: another run may have changed the directory since the first check.
                self.check()
                self.pictures.continue_record()
                record = self._recorder.read().record
                self._earlier_touches = {} if self._config.fresh else earlier_touches(record)
                if begins and self.unfinished() is None:
                    self._remove_run()
                if begins:
                    note_beginning()
                json_name = self.run_id if self._config.log == "json" else None
                with self.home.working(), log_to(self.path / LOG, self._recorder.save_failure, json_of=json_name):
                    try:
                        yield
                    except StorageError:
                        self.home.stop_retrying()
                        raise
            finally:
                self._is_held = False

    def _remove_run(self) -> None:
        """Remove the files of a run that is not continued.

        These are canvas, levels, previews, log and record, and what touches left. Pictures stay.
        """
        has_record = bool(self._recorder.read().record)
        self.checkpoints.discard()
        if has_record:
            discard_touches(self.home.place, masks=self._config.fresh)
        discard_levels(self.home.levels)
        self.home.remove_run(has_record=has_record)

    @property
    def record(self) -> dict[str, Any]:
        """Facts of `run.json`; empty before `start_record` or `reopen_record`."""
        return self._recorder.record

    def start_record(self, **facts: Any) -> None:
        """Begin `run.json` with the whole config, versions and the given facts, or continue it."""
        copies = self.pictures.recorded_copies
        self._recorder.start(
            {
                "digest": self.digest,
                "picture": self.picture.name,
                "pictures": self.pictures.recorded_pictures,
                "config": asdict(self._config),
                "identity": self.identity,
                **({"copies": copies} if copies else {}),
                **self._earlier_touches,
                **facts,
            }
        )

    def recorded_workers(self) -> Any:
        """Return the facts of the workers that the stored record has; None without any."""
        return self._recorder.read().record.get("workers")

    def reopen_record(self) -> None:
        """Continue the record of a finished run.

        A lost record is written again if the directory is held.
        """
        self._recorder.reopen(repair=self._is_held)

    def save(self, **facts: Any) -> None:
        """Add facts to `run.json`, replacing the file as a whole.

        Does nothing before `start_record`.
        """
        self._recorder.save(**facts)

    def write_preview(self, octave: int, pixels: np.ndarray) -> None:
        """Write a small picture of an octave to `previews/octave-N.png`.

        `octave` counts from 0, N from 1.
        """
        path = preview_path(self.path, octave)
        write_picture(path, image_of(pixels), "png")
        self.home.store(path.relative_to(self.path).as_posix())


def _open_home(config: Config, digest: str) -> RunHome:
    """Return the home that `output.dir` names.

    By default a directory named for the config and the digest.
    """
    directory = config.output.dir
    if not directory:
        return LocalHome(Path("dreams") / f"{config.name}-{digest[:8]}")
    url = checked_url(directory, "output.dir")
    if url is None:
        return LocalHome(user_path(directory, "output.dir"))
    # Imported late: runs on disk need not wait for the client of object stores.
    from render.job.mirrored_home import MirroredHome

    return MirroredHome(url)


def stored_checkpoints(directory: Place) -> Checkpoints:
    """Return the checkpoints of the run in a directory or at a URL."""
    return Checkpoints(joined(directory, CANVAS))
