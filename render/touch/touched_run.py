"""The finished run that is touched: its canvas, its record, and the touches that the canvas has.

The run may come from somebody else: of its record only checked values are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from render.canvas.store import CanvasStore
from render.config.schema import Config
from render.errors import UserError
from render.export.profile import Profile
from render.farm.checkpoint import Checkpoint, ResumeKey
from render.geometry.geometry import BOUNDARY_MODES, AxisMode
from render.job.colour_reference import ColourReference
from render.job.pictures import explain_damage
from render.job.recorded_touches import TOUCHES, RecordedTouch, RecordedTouches
from render.job.reexport import picture_config, whole_record
from render.job.run_directory import RunDirectory
from render.storage.records import MalformedRecord, check_shape
from render.storage.url import Place

#: Numbers of a box.
_BOX_NUMBERS = 4


@dataclass(frozen=True)
class TouchLog:
    """Touches that a record tells.

    Attributes:
        applied: Those of the canvas, in their order.
        lost: Those of a canvas that is gone, which can be done again.
        pending: Key of the newest change if its pictures are not all written; else empty.
    """

    applied: tuple[RecordedTouch, ...] = ()
    lost: tuple[RecordedTouch, ...] = ()
    pending: str = ""

    @property
    def next_number(self) -> int:
        """Number of the next touch."""
        return 1 + max((touch["number"] for touch in self.applied), default=0)

    def record(self, canvas: str) -> RecordedTouches:
        """Return the record of these touches of a canvas with this token."""
        touches: RecordedTouches = {"canvas": canvas, "applied": list(self.applied), "pending": self.pending}
        if self.lost:
            touches["waiting"] = list(self.lost)
        return touches


@dataclass(frozen=True)
class TouchedRun:
    """A finished run.

    Attributes:
        place: Directory or URL of the run.
        record: Its record, checked.
        config: Config of its pictures.
        profile: Colour profile of its pictures.
        reference: Picture whose colours its pictures take; None for none.
        directory: The directory itself.
        checkpoint: The newest checkpoint.
        resume_key: Values that its checkpoints share.
        log: The touches of its canvas.
    """

    place: Place
    record: Mapping[str, Any]
    config: Config
    profile: Profile
    reference: ColourReference | None
    directory: RunDirectory
    checkpoint: Checkpoint
    resume_key: ResumeKey
    log: TouchLog

    @property
    def canvas(self) -> CanvasStore:
        """The canvas; raise `UserError` if it is gone or damaged."""
        with explain_damage():
            return CanvasStore(self.directory.checkpoints.path(self.checkpoint), self.checkpoint.token)

    @property
    def modes(self) -> tuple[AxisMode, AxisMode]:
        """Behaviour of the canvas' rows and columns at their ends."""
        return BOUNDARY_MODES[self.config.boundary.mode]


def open_touched(run: Place, words: Sequence[str] = ()) -> TouchedRun:
    """Return a finished run to touch; nothing is written, and only its record and the canvas' metadata are read.

    Args:
        run: Run directory, or URL of a run.
        words: `key=value` words for its pictures: `overwrite`, `quiet` and `log`.

    Raises:
        UserError: It is no run, it is not finished or still going, or its canvas is gone.
    """
    record = whole_record(run)
    config, profile, reference = picture_config(run, record, words)
    directory = RunDirectory(config, record.get("identity", {}), record["digest"])
    directory.refuse_busy()
    if record["status"] != "finished":
        raise UserError(
            f"run={run} is not finished (it is {str(record['status'])[:40]}): finish it first, with the command that began "
            "it"
        )
    manifest = directory.checkpoints.read()
    if manifest is None or not manifest.checkpoints:
        raise UserError(f"run={run} holds no canvas, only its record: render it again with the command that made it")
    if manifest.resume_key.digest != record["digest"]:
        raise UserError(f"run={run}: its canvas is that of another run than its record describes")
    log = read_touches(record, directory.checkpoints.read_about(), manifest.checkpoints[0].token)
    return TouchedRun(run, record, config, profile, reference, directory, manifest.checkpoints[0], manifest.resume_key, log)


def read_touches(record: Mapping[str, Any], backup: Any, token: str) -> TouchLog:
    """Return the touches of a canvas.

    The copy of the record with the canvas' manifest is written in one move with the canvas, and the record itself later.

    Args:
        record: The run's record.
        backup: The copy of it with the manifest; anything else counts as none.
        token: Token of the canvas.
    """
    stored = [touches for source in (record, backup) if (touches := checked_touches(source)) is not None]
    for touches in stored:
        if touches["canvas"] == token:
            return TouchLog(tuple(touches["applied"]), tuple(touches.get("waiting", ())), touches["pending"])
    lost = max(([*touches["applied"], *touches.get("waiting", ())] for touches in stored), key=len, default=[])
    return TouchLog((), tuple(lost))


def checked_touches(source: Any) -> RecordedTouches | None:
    """Return the touches in a record if they are valid; None if it has none."""
    touches = source.get(TOUCHES) if isinstance(source, Mapping) else None
    try:
        check_shape(touches, RecordedTouches)
    except MalformedRecord:
        return None
    valid = cast(RecordedTouches, touches)
    entries = [*valid["applied"], *valid.get("waiting", ())]
    return valid if all(len(entry["box"]) == _BOX_NUMBERS for entry in entries) else None
