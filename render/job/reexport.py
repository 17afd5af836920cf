"""Export of a run's canvas to other picture files, without dreaming again.

The run's own files are not touched. Only the words of the command say where pictures go, because a run's record may come
from somebody else. Places that only the record names are never written to or connected to, and are read only where the
content is what the record knows.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from render.canvas.store import CanvasStore
from render.config.compose import recorded_config
from render.config.formats import refuse_size
from render.config.schema import (
    MATCH_SOURCE,
    Config,
    FarmConfig,
    NodeConfig,
    PanelsConfig,
    picture_bleed,
    picture_format,
    picture_height,
    picture_width,
    pictures,
)
from render.errors import UserError
from render.export.export import Style
from render.export.metadata import read_settings
from render.export.profile import BUILT_IN, Profile
from render.farm.checkpoint import Checkpoint
from render.geometry.units import MM_PER_INCH
from render.job.colour_reference import ColourReference, open_reference
from render.job.copies import Copies, picture_sha256
from render.job.pictures import (
    Say,
    explain_damage,
    make_pictures,
    measure_colours,
    record_at_octave,
    say_of_colours,
    style_of,
    usable_profile,
    write_target,
)
from render.job.print_pages import refuse_pages
from render.job.run_directory import RunDirectory
from render.job.run_record import RECORD, missing_record_message, read_run, refuse_film
from render.job.targets import Target, refuse_unwritable, targets
from render.job.wide_pictures import find_wide_source
from render.source.source import find_picture
from render.storage.url import Place, checked_url
from render.storage.user_paths import user_path
from render.system.paths import cache_directory, file_sha256

#: Keys that say which pictures are written, and where.
_PICTURE_KEYS = ("output.path", "output.format", "output.also")
#: Keys whose values may differ from the run's when its canvas is exported again.
ALLOWED = (
    *_PICTURE_KEYS, "output.dpi", "output.bits", "output.intent", "output.dither", "output.compression", "output.quality",
    "output.profile", "output.title", "output.author", "output.panels", "output.saturation", "output.contrast",
    "output.match", "output.marks", "output.iiif_id", "overwrite", "quiet", "log",
)  # fmt: skip
#: Beginnings of the keys of a picture's size.
_SIZE_KEYS = ("output.width", "output.height")
#: Facts of a record that a picture's metadata needs.
_REQUIRED_FACTS = ("objective", "image_sha256", "weights_sha256", "plan")
#: Largest profile that is read if only the record names it: press profiles have 2 MB.
_MAX_PROFILE_BYTES = 64 << 20


def export_run(run: Place, overrides: Sequence[str], say: Say) -> list[Place]:
    """Write the newest canvas of a run to the pictures that the overrides name.

    A canvas that is not finished gets a name that says so. Pictures with a place of their own are written only there,
    so that the run's directory may be read-only.

    Args:
        run: the run directory, or its URL in an object store.
        overrides: `key=value` words, of the keys in `ALLOWED`.
        say: prints a line for the user.

    Returns:
        The places of the pictures.

    Raises:
        UserError: if the run or a word is wrong, or a picture would replace one that is not the run's.
    """
    record = whole_record(run)
    config, profile, reference = picture_config(run, record, overrides)
    directory = RunDirectory(config, record.get("identity", {}), record["digest"])
    with explain_damage():
        canvas = directory.canvas()
    finished = record["status"] == "finished"
    _refuse_sizes(directory.targets, canvas, config, profile)
    refuse_pages(directory.targets, config, canvas.shape, picture_bleed(config.output) if finished else None)
    canvas_record = record if finished else _name_unfinished(directory, config, record, say)
    directory.pictures.targets, outside = _divided(directory)
    search = find_wide_source(config, profile, record["image_sha256"])
    style = style_of(config, profile, canvas_record, reference, search.source)
    export = _Export(canvas, config, record, Copies(config, record["digest"], dict, lambda **_facts: None), say)
    if directory.targets:
        directory.home.check_exportable()
    for target, place in outside:
        export.refuse_other(target, place, style)
    if outside or not finished:
        say_of_colours(config, search, say)
    written: list[Place] = []
    if directory.targets and finished:
        with directory.opened(begins=False):
            directory.reopen_record()
            written += make_pictures(directory, config, profile, say, reference)
    elif directory.targets:
        style = measure_colours(style, directory.targets, canvas, config, say, reference)
        written += export.write_unfinished(directory, style)
    if outside:
        style = measure_colours(style, [target for target, _ in outside], canvas, config, say, reference)
        written += [export.write_outside(target, place, style) for target, place in outside]
    return written


@dataclass(frozen=True)
class _Export:
    """A canvas on its way into pictures: all that each of them needs besides its style.

    `config` is that of the export, `record` that of the run. `copies` writes and compares files outside of the run's
    directory.
    """

    canvas: CanvasStore
    config: Config
    record: Mapping[str, Any]
    copies: Copies
    say: Say

    def refuse_other(self, target: Target, place: Place, style: Style) -> None:
        """Raise `UserError` if a place holds something that may not be replaced.

        A picture with the same settings is let through here and compared later.
        """
        if isinstance(place, Path):
            refuse_unwritable(place.parent)
        if not (isinstance(place, Path) and _has_settings_of(place, style)):
            self.copies.check(place, tree=target.is_directory)

    def write_outside(self, target: Target, place: Place, style: Style) -> Place:
        """Write one picture to its place, and nothing anywhere else. Return the place."""
        self.say(f"writing {place}")
        if isinstance(place, Path) and not _has_settings_of(place, style):
            replaceable = self.copies.check(place, tree=target.is_directory)
            self._write(replace(target, path=place), style, keep=not replaceable)
            return place
        parent = cache_directory() / "exports" if isinstance(place, str) else place.parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".render-export-", dir=parent) as temporary:
            picture = Path(temporary) / target.path.name
            self._write(replace(target, path=picture), style)
            if isinstance(place, str) or self.config.overwrite:
                self.copies.write(picture, place)
            elif picture_sha256(picture) != picture_sha256(place):
                raise UserError(f"{place} exists: choose another output.path, or overwrite=true to replace it")
        return place

    def write_unfinished(self, directory: RunDirectory, style: Style) -> list[Place]:
        """Write pictures into the directory of a run that is not finished; return their places.

        The run may continue at any moment, so its record stays as it is.
        """
        for target in directory.targets:
            if directory.pictures.exists(target) and not self.config.overwrite:
                raise UserError(f"{directory.pictures.place(target)} exists: move it away, or overwrite=true to replace it")
        for target in directory.targets:
            self._write(target, style)
            directory.pictures.store_unrecorded(target)
        return directory.pictures.publish()

    def _write(self, target: Target, style: Style, *, keep: bool = False) -> None:
        write_target(self.canvas, target, style, self.config, self.record, self.say, keep=keep)


def _name_unfinished(directory: RunDirectory, config: Config, record: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Name the pictures of an unfinished run by octave and step; return its record there."""
    newest = directory.newest()
    assert newest is not None
    say(unfinished_text(newest))
    name = f"{config.name}-octave-{newest.octave + 1}-step-{newest.steps}"
    directory.pictures.targets = targets(directory.path, name, config.output)
    return record_at_octave(record, newest.octave)


def unfinished_text(newest: Checkpoint) -> str:
    """Return a line about the canvas of a run that is not finished."""
    return f"not finished: as saved at octave {newest.octave + 1}, step {newest.steps}"


def _refuse_sizes(targets: Iterable[Target], canvas: CanvasStore, config: Config, profile: Profile) -> None:
    """Raise `UserError` if a format cannot hold the canvas."""
    for target in targets:
        if not target.panels:
            refuse_size(target.form, canvas.shape, config.output.bits, profile.channels)


def picture_config(
    run: Place, record: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[Config, Profile, ColourReference | None]:
    """Return the config of a run's pictures, with the overrides, and the profile and colours that it names.

    Raises:
        UserError: A word is wrong, or a file that only the record names is not the one that the run used.
    """
    config = exported_config(record, overrides)
    config.output.dir = str(run)
    _refuse_unknown_profile(run, config, record, overrides)
    refuse_unknown_match(run, config, record, overrides)
    return config, usable_profile(config), open_reference(config, record["image_sha256"], recorded=True)


def whole_record(run: Place, key: str = "run") -> dict[str, Any]:
    """Return the record of a picture's run, named by a key. Raise `UserError` if a fact that pictures need is missing."""
    reading = read_run(run)
    if not reading.record:
        raise UserError(missing_record_message(run, reading, key))
    refuse_film(reading.record, f"{key}={run}")
    missing = [key for key in _REQUIRED_FACTS if key not in reading.record]
    if missing or not reading.record["plan"]["octaves"]:
        raise UserError(f"{key}={run}: its {RECORD} says nothing of {(missing or ['octaves'])[0]}: it is no whole record")
    return reading.record


def exported_config(record: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Return the run's recorded config with the overrides, and without the places that it names.

    Another `output.dpi` changes no pixel: sizes in cm and inches become the canvas' size in px, and a bleed keeps its
    pixels, so that it changes in mm. Raises `UserError`.
    """
    recorded = recorded_config(record["config"], [], ())
    settings = asdict(recorded)
    output = settings["output"]
    settings |= {"fresh": False, "overwrite": False, "quiet": False, "log": "text"}
    settings |= {"farm": asdict(FarmConfig()), "node": asdict(NodeConfig())}
    requested_keys = [word.partition("=")[0].lstrip("+") for word in overrides]
    sizes = [key for key in requested_keys if key.startswith(_SIZE_KEYS)]
    if sizes:
        raise UserError(
            f"{sizes[0]} cannot be changed without dreaming again: another output.dpi prints its canvas in another size"
        )
    other_formats = list(pictures(recorded.output))[1:]
    output |= {"dir": None, "path": None, "format": picture_format(recorded.output), "also": other_formats}
    if any(key.startswith(_PICTURE_KEYS) for key in requested_keys):
        # The pictures that the run itself made are not made again.
        output |= {"format": None, "also": []}
        if not any(key.startswith("output.panels") for key in requested_keys):
            output["panels"] = asdict(PanelsConfig())
        if "output.marks" not in requested_keys:
            output["marks"] = False
    if "output.dpi" in requested_keys:
        output |= {"width": picture_width(recorded.output), "width_cm": None, "width_in": None}
        output |= {"height": picture_height(recorded.output), "height_cm": None, "height_in": None}
    config = recorded_config(settings, overrides, ALLOWED)
    bleed = picture_bleed(recorded.output)
    if "output.dpi" in requested_keys and bleed and config.output.dpi:
        config.output.bleed_mm = bleed / config.output.dpi * MM_PER_INCH
    return config


def _refuse_unknown_profile(run: Place, config: Config, record: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise `UserError` for a profile that only the record names, unless the run used it."""
    name = config.output.profile
    is_requested = any(word.lstrip("+").startswith("output.profile=") for word in overrides)
    if name is None or name in BUILT_IN or is_requested:
        return
    if checked_url(name, "output.profile") is None:
        path = user_path(name, "output.profile")
        sha256 = record.get("profile_sha256")
        if sha256 and path.is_file() and path.stat().st_size <= _MAX_PROFILE_BYTES and file_sha256(path) == sha256:
            return
    raise UserError(
        f"run={run} was made with output.profile={name}, which is not read unasked: say output.profile=FILE, or "
        "output.profile=srgb"
    )


def refuse_unknown_match(run: Place, config: Config, record: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise `UserError` for a picture to match that only the record names, unless the run used it."""
    name = config.output.match
    is_requested = any(word.lstrip("+").startswith("output.match=") for word in overrides)
    if name is None or name == MATCH_SOURCE or is_requested:
        return
    sha256 = record.get("match_sha256")
    if sha256 and checked_url(name, "output.match") is None and find_picture(name, "a path or sample:NAME")[1] == sha256:
        return
    raise UserError(
        f"run={run} was made with output.match={name}, which is not read unasked: say output.match=FILE, or "
        "output.match=null"
    )


def _divided(directory: RunDirectory) -> tuple[tuple[Target, ...], list[tuple[Target, Place]]]:
    """Return the pictures for the run's directory, and those for elsewhere, each with its place."""
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


def _has_settings_of(place: Path, style: Style) -> bool:
    """Return whether a file states exactly the settings that a picture of `style` would state."""
    if not place.is_file() or style.metadata.settings is None:
        return False
    try:
        return read_settings(place) == json.loads(json.dumps(style.metadata.settings))
    except OSError:
        return False
