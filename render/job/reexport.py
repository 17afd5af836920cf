"""The `export run=DIR` command: other files from a run's canvas, without dreaming again.

The run's own files are not touched. Only the words of the command say where pictures go, because a run's record may come
from somebody else. Places that only the record names are never written to or connected to, and are read only where the
content is what the record knows.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from render.canvas.store import CanvasStore
from render.config.compose import recorded_config
from render.config.formats import FORMATS, refuse_size
from render.config.schema import (
    Config,
    FarmConfig,
    NodeConfig,
    PanelsConfig,
    picture_bleed,
    picture_format,
    picture_width,
    pictures,
)
from render.errors import UserError
from render.export.export import Style
from render.export.metadata import read_settings
from render.export.profile import BUILT_IN
from render.job.copies import Copies, picture_sha256
from render.job.pictures import (
    Say,
    cut_for,
    explain_damage,
    make_pictures,
    measure_colours,
    record_at_octave,
    style_of,
    usable_profile,
    write_target,
)
from render.job.progress import say
from render.job.run_directory import RunDirectory
from render.job.run_record import RECORD, missing_record_message, read_run
from render.job.targets import Target, refuse_unwritable, targets
from render.storage.url import Place, checked_url
from render.storage.user_paths import user_path
from render.system import interrupts
from render.system.paths import cache_directory, file_sha256

_WHICH = ("output.path", "output.format", "output.also")
#: Keys whose values may differ from the run's when its canvas is exported again.
ALLOWED = (
    *_WHICH, "output.dpi", "output.bits", "output.compression", "output.quality",
    "output.profile", "output.title", "output.author", "output.panels", "output.saturation", "output.contrast",
    "overwrite", "quiet", "log",
)  # fmt: skip
#: Facts of a record that a picture's metadata needs.
_NEEDED = ("objective", "image_sha256", "weights_sha256", "plan")
_MM_PER_INCH = 25.4
#: Most bytes of a profile that only the record names: press profiles have 2 MB.
_MOST_PROFILE_BYTES = 64 << 20


def export_command(words: Sequence[str]) -> None:
    """Run `export run=DIR [output.KEY=VALUE ...]` and print the places of the pictures."""
    runs = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    if len(runs) != 1 or not runs[0]:
        raise UserError("export needs one run=DIR, such as run=dreams/poster-1a2b3c4d")
    quiet = "quiet=true" in words
    # An exception cannot pass through libvips: it is raised where the canvas is read, and half-written files are removed.
    interrupts.hold()
    with interrupts.deferred(quiet=True):
        paths = export_run(
            checked_url(runs[0], "run") or user_path(runs[0], "run"),
            [word for word in words if not word.startswith("run=")],
            lambda line: say(line, quiet=quiet),
        )
        say(*map(str, paths), quiet=quiet)
    interrupts.check()


def export_run(run: Place, overrides: Sequence[str], say: Say) -> list[Place]:
    """Write the newest canvas of a run as `output.*` overrides say; return the places of the pictures.

    A canvas that is not finished gets a name that says so. Pictures with a place of their own are written only there,
    so that the run's directory may be read-only. Raises `UserError`, also where a picture would replace one that is
    not the run's.
    """
    record = _whole_record(run)
    config = exported_config(record, overrides)
    config.output.dir = str(run)
    _refuse_unknown_profile(run, config, record, overrides)
    profile = usable_profile(config)
    directory = RunDirectory(config, record.get("identity", {}), record["digest"])
    with explain_damage():
        canvas = directory.canvas()
    for target in directory.targets:
        if target.panels:
            cut_for(config, canvas.shape)
        else:
            refuse_size(target.form, canvas.shape, config.output.bits, profile.channels)
    newest = directory.newest()
    assert newest is not None
    finished = record["status"] == "finished"
    if not finished:
        say(f"not finished: as saved at octave {newest.octave + 1}, step {newest.steps}")
        name = f"{config.name}-octave-{newest.octave + 1}-step-{newest.steps}"
        directory.pictures.targets = targets(directory.path, name, config.output)
    directory.pictures.targets, outside = _divided(directory)
    effective_record = record if finished else record_at_octave(record, newest.octave)
    style = style_of(config, profile, effective_record)
    copies = Copies(config, record["digest"], dict, lambda **_facts: None)
    if directory.targets:
        directory.home.check_exportable()
    for target, place in outside:
        _refuse_other(copies, target, place, style)
    written: list[Place] = []
    if directory.targets and finished:
        with directory.opened(begins=False):
            directory.reopen_record()
            written += make_pictures(directory, config, profile, say)
    elif directory.targets:
        style = measure_colours(style, directory.targets, canvas, config, say)
        written += _write_unfinished(directory, canvas, style, config, record, say)
    if outside:
        style = measure_colours(style, [target for target, _ in outside], canvas, config, say)
    for target, place in outside:
        say(f"writing {place}")
        _write_outside(copies, target, place, canvas, style, config, record, say)
        written.append(place)
    return written


def _whole_record(run: Place) -> dict[str, Any]:
    """Return the record of a run with every fact that pictures need; raise `UserError` where one is missing."""
    reading = read_run(run)
    if not reading.record:
        raise UserError(missing_record_message(run, reading))
    missing = [key for key in _NEEDED if key not in reading.record]
    if missing or not reading.record["plan"]["octaves"]:
        raise UserError(f"run={run}: its {RECORD} says nothing of {(missing or ['octaves'])[0]}: it is no whole record")
    return reading.record


def exported_config(record: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Return the run's recorded config, with all that it says of places replaced by what `overrides` say.

    Another `output.dpi` changes no pixel: sizes in cm and inches become the canvas' size in px, and a bleed keeps its
    pixels, so that it changes in mm. Raises `UserError`.
    """
    recorded = recorded_config(record["config"], [], ())
    settings = asdict(recorded)
    output = settings["output"]
    settings |= {"fresh": False, "overwrite": False, "quiet": False, "log": "text"}
    settings |= {"farm": asdict(FarmConfig()), "node": asdict(NodeConfig())}
    requested_keys = [word.partition("=")[0].lstrip("+") for word in overrides]
    other_formats = list(pictures(recorded.output))[1:]
    output |= {"dir": None, "path": None, "format": picture_format(recorded.output), "also": other_formats}
    if any(key.startswith(_WHICH) for key in requested_keys):
        # The pictures that the run itself made are not made again.
        output |= {"format": None, "also": []}
        if not any(key.startswith("output.panels") for key in requested_keys):
            output["panels"] = asdict(PanelsConfig())
    if "output.dpi" in requested_keys:
        output |= {"width": picture_width(recorded.output), "width_cm": None, "width_in": None}
    config = recorded_config(settings, overrides, ALLOWED)
    bleed = picture_bleed(recorded.output)
    if "output.dpi" in requested_keys and bleed and config.output.dpi:
        config.output.bleed_mm = bleed / config.output.dpi * _MM_PER_INCH
    return config


def _refuse_unknown_profile(run: Place, config: Config, record: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise `UserError` for a profile that only the record names, unless its content is the one that the run used."""
    name = config.output.profile
    is_requested = any(word.lstrip("+").startswith("output.profile=") for word in overrides)
    if name is None or name in BUILT_IN or is_requested:
        return
    if checked_url(name, "output.profile") is None:
        path = user_path(name, "output.profile")
        sha256 = record.get("profile_sha256")
        if sha256 and path.is_file() and path.stat().st_size <= _MOST_PROFILE_BYTES and file_sha256(path) == sha256:
            return
    raise UserError(
        f"run={run} was made with output.profile={name}, which is not read unasked: say output.profile=FILE, or "
        "output.profile=srgb"
    )


def _divided(directory: RunDirectory) -> tuple[tuple[Target, ...], list[tuple[Target, Place]]]:
    """Return the pictures for the run's directory, and those for other places, each with its place."""
    inside: list[Target] = []
    outside: list[tuple[Target, Place]] = []
    for target in directory.targets:
        picture_place = directory.pictures.place(target)
        run_place = picture_place if isinstance(picture_place, str) else Path(os.path.realpath(picture_place))
        other_places = [copy for copy in target.copies if copy != run_place]
        outside += [(target, copy) for copy in other_places]
        if not target.copies or len(other_places) < len(target.copies):
            inside.append(replace(target, copies=()))
    return tuple(inside), outside


def _refuse_other(copies: Copies, target: Target, place: Place, style: Style) -> None:
    """Raise `UserError` where a place holds something that may not be replaced.

    A picture with the same settings is let through here and compared later.
    """
    if isinstance(place, Path):
        refuse_unwritable(place.parent)
    if not (isinstance(place, Path) and _says_the_same(place, style)):
        copies.check(place, tree=_is_tree(target))


def _write_outside(
    copies: Copies,
    target: Target,
    place: Place,
    canvas: CanvasStore,
    style: Style,
    config: Config,
    record: Mapping[str, Any],
    say: Say,
) -> None:
    """Write one picture to its place, and nothing anywhere else."""
    if isinstance(place, Path) and not _says_the_same(place, style):
        replaceable = copies.check(place, tree=_is_tree(target))
        write_target(canvas, replace(target, path=place), style, config, record, say, keep=not replaceable)
        return
    parent = cache_directory() / "exports" if isinstance(place, str) else place.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".render-export-", dir=parent) as temporary:
        picture = Path(temporary) / target.path.name
        write_target(canvas, replace(target, path=picture), style, config, record, say)
        if isinstance(place, str) or config.overwrite:
            copies.write(picture, place)
        elif picture_sha256(picture) != picture_sha256(place):
            raise UserError(f"{place} exists: choose another output.path, or overwrite=true to replace it")


def _write_unfinished(
    directory: RunDirectory,
    canvas: CanvasStore,
    style: Style,
    config: Config,
    record: Mapping[str, Any],
    say: Say,
) -> list[Place]:
    """Write the pictures of a run that may continue at any moment into its directory, without changing its record."""
    for target in directory.targets:
        if directory.pictures.exists(target) and not config.overwrite:
            raise UserError(f"{directory.pictures.place(target)} exists: move it away, or overwrite=true to replace it")
    for target in directory.targets:
        write_target(canvas, target, style, config, record, say)
        directory.pictures.store_unrecorded(target)
    return directory.pictures.publish()


def _says_the_same(place: Path, style: Style) -> bool:
    """Return whether a file's metadata has exactly the settings that a picture of `style` would have."""
    if not place.is_file() or style.metadata.settings is None:
        return False
    try:
        return read_settings(place) == json.loads(json.dumps(style.metadata.settings))
    except OSError:
        return False


def _is_tree(target: Target) -> bool:
    return target.panels or FORMATS[target.form].directory
