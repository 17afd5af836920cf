"""The record `run.json` of a run, its shape, and its backup beside the canvas.

A record may come from somebody else. None of its values is used as a place to write to, and none is interpolated: see
`compose.recorded_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from render.errors import UserError
from render.farm.checkpoint import MANIFEST, Checkpoints
from render.geometry.geometry import BOUNDARY_MODES
from render.job.recorded_touches import RecordedTouches
from render.storage.opening import open_storage
from render.storage.records import (
    Between,
    FileName,
    MalformedRecord,
    Matching,
    Seconds,
    Side,
    WholeNumber,
    check_shape,
    parse_record,
)
from render.storage.url import Place, joined

#: Names of the record and of the checkpoints' directory in a run directory.
RECORD, CANVAS = "run.json", "canvas"
#: Facts that grow with the run and that no reader needs: left out of the copy beside the canvas.
_GROWING_FACTS = ("octaves", "workers", "resumed")

_Workers = Annotated[int, Between(1, 100_000)]


class _AxisRequired(TypedDict):
    length: Side


class _Axis(_AxisRequired, total=False):
    tile: Side
    halo: WholeNumber
    fill: WholeNumber
    stride: Side
    mode: Annotated[str, Matching("|".join(BOUNDARY_MODES))]


class _Grid(TypedDict):
    rows: _Axis
    columns: _Axis


class _Stage(TypedDict):
    steps: WholeNumber


class _OctaveRequired(TypedDict):
    grid: _Grid


class _Octave(_OctaveRequired, total=False):
    stage: _Stage
    steps: WholeNumber


class _PlanRequired(TypedDict):
    octaves: list[_Octave]


class _Plan(_PlanRequired, total=False):
    workers: _Workers


class _ModelConfig(TypedDict):
    name: str


class _OutputConfig(TypedDict, total=False):
    dpi: Annotated[float, Between(0, 1e9)] | None


class _ConfigRequired(TypedDict):
    name: Annotated[str, Matching(r"[^\0\ud800-\udfff]{1,255}")]
    image: str
    model: _ModelConfig
    output: _OutputConfig


class _RecordedConfig(_ConfigRequired, total=False):
    """The part of a recorded config that is read without making a `Config` of it."""

    tiles: dict[str, Any]


class _PictureRequired(TypedDict):
    sha256: str
    style: str


class _Picture(_PictureRequired, total=False):
    sending: bool
    stored: dict[str, int | str]


class _Copy(TypedDict, total=False):
    of: str
    sending: bool
    stored: dict[str, int | str]


class _Required(TypedDict):
    digest: str
    status: str
    config: _RecordedConfig


class RunRecord(_Required, total=False):
    """The keys of `run.json` that are read.

    Only those that distinguish a run from other JSON are required.
    """

    started: str
    resumed: list[str]
    error: str
    identity: dict[str, str | None]
    picture: FileName
    pictures: dict[FileName, _Picture]
    copies: dict[str, _Copy]
    objective: str
    image_sha256: str | None
    weights_sha256: str
    profile_sha256: str | None
    match_sha256: str | None
    plan: _Plan
    seconds: dict[str, Seconds]
    touches: RecordedTouches


@dataclass(frozen=True)
class RecordReading:
    """Result of an attempt to read a run's record.

    Attributes:
        record: The record; empty if none can be read.
        damage: Why an existing file is not valid; empty if it is.
        is_backup: True for the copy beside the canvas, which is read if the file itself is lost.
    """

    record: dict[str, Any] = field(default_factory=dict)
    damage: str = ""
    is_backup: bool = False


def read_run(directory: Place) -> RecordReading:
    """Return the record of the run in a directory or at a URL.

    If the record is lost, it is the copy with the newest checkpoint. Raises `StorageError` if an object store gives no
    answer.
    """
    damage = ""
    try:
        return RecordReading(checked_record(parse_record(open_storage(directory).load(RECORD)[0])))
    except FileNotFoundError:
        if open_storage(joined(directory, CANVAS)).info(MANIFEST) is not None:
            damage = "it is missing"
    except MalformedRecord as error:
        damage = str(error)
    except OSError as error:
        damage = error.strerror or str(error)
    backup = _read_backup(directory)
    return RecordReading(backup, damage, is_backup=True) if backup else RecordReading({}, damage)


def read_record(directory: Place) -> dict[str, Any]:
    """Return the record that `read_run` finds; empty if there is none."""
    return read_run(directory).record


def checked_record(value: object) -> dict[str, Any]:
    """Return the value if it is a run's record; raise `MalformedRecord` if not."""
    check_shape(value, RunRecord)
    assert isinstance(value, dict)
    return value


def missing_record_message(run: Place, reading: RecordReading, key: str = "run") -> str:
    """Return the message, one line, for a run, named by a key, whose record is needed and cannot be read."""
    if reading.damage:
        return (
            f"{key}={run} is no run directory that can be read ({RECORD}: {reading.damage}): the command that made the run "
            "writes it anew, with fresh=true where nothing else helps"
        )
    return f"{key}={run}: there is no run of this program; name a run directory, such as dreams/poster-1a2b3c4d"


def refuse_film(record: Mapping[str, Any], where: str) -> None:
    """Raise `UserError`, beginning with `where`, for the record of a film where that of a picture is needed."""
    if "film" in record:
        raise UserError(f"{where} is a film: name the run directory of a picture, such as dreams/poster-1a2b3c4d")


def backup_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a record that is copied beside the canvas."""
    return {key: value for key, value in record.items() if key not in _GROWING_FACTS}


def planned_steps(record: Mapping[str, Any]) -> list[int]:
    """Return the steps that a run's record plans for each octave.

    Older records store them beside the grid.
    """
    octaves = record.get("plan", {}).get("octaves", [])
    return [int(octave.get("stage", octave).get("steps", 0)) for octave in octaves]


def _read_backup(directory: Place) -> dict[str, Any]:
    """Return the record beside the newest checkpoint; empty if there is none.

    Its status is the one that the checkpoint shows.
    """
    checkpoints = Checkpoints(joined(directory, CANVAS))
    try:
        manifest, about = checkpoints.read(), checkpoints.read_about()
        record = checked_record(about)
        if manifest is None or not manifest.checkpoints or manifest.resume_key.digest != record["digest"]:
            return {}
    except (UserError, MalformedRecord):
        return {}
    newest, planned = manifest.checkpoints[0], planned_steps(record)
    is_finished = len(planned) == newest.octave + 1 and newest.steps >= planned[-1]
    return {**record, "status": "finished" if is_finished else "interrupted"}
