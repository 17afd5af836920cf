"""Pictures made from the canvas in a run directory, as the run's config asks for them."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from render.canvas.image import CanvasImage, to_integers
from render.canvas.store import CanvasStore
from render.config.formats import FORMATS, SOURCE
from render.config.schema import AUTO, RELATIVE, Config, picture_bleed
from render.config.schema import pictures as requested_pictures
from render.errors import DamagedCheckpoint, UserError
from render.export.colour import measure_adjustment
from render.export.colour_match import colour_map, measure_canvas
from render.export.export import Style, export, export_panels, write_zoom
from render.export.iiif import set_address
from render.export.metadata import Metadata
from render.export.picture import Encoding, can_compress, image_of
from render.export.print_layout import KEY as LAYOUT_KEY
from render.export.print_layout import PrintLayout
from render.export.profile import GENERIC_CMYK, Profile, read_profile
from render.geometry.geometry import whole
from render.job.colour_reference import ColourReference
from render.job.print_pages import cut_for, pages_for
from render.job.recorded_source import reopen_source
from render.job.recorded_touches import TOUCHES, touch_settings
from render.job.run_directory import RunDirectory
from render.job.targets import Target
from render.job.wide_pictures import SourceSearch, find_wide_source
from render.pages.run_facts import facts_of
from render.pages.zoom_page import write_viewer
from render.source.wide_source import WideSource
from render.storage.url import Place
from render.system.version import __version__

log = logging.getLogger(__name__)

Say = Callable[[str], None]
#: Formats that always name the profile of their colours.
_PROFILED = ("pdf", "psb")
#: Longest side in px of the source that a zoom page shows for comparison.
_MAX_SOURCE_SIDE = 4096


def style_of(
    config: Config,
    profile: Profile,
    record: Mapping[str, Any],
    reference: ColourReference | None = None,
    wide_source: WideSource | None = None,
) -> Style:
    """Return the style and metadata of a run's pictures, from its config and its `run.json`."""
    config = _with_dither(config, record)
    output = config.output
    settings = settings_of(config, record)
    if reference is not None and reference.sha256 is not None:
        settings["match_sha256"] = reference.sha256
    return Style(
        bits=output.bits,
        profile=profile,
        intent=output.intent,
        dither=output.dither is True,
        wide_source=wide_source,
        encoding=Encoding(output.quality, output.compression),
        metadata=Metadata(settings, output.title, output.author, output.dpi),
    )


def _with_dither(config: Config, record: Mapping[str, Any]) -> Config:
    """Return the config with `output.dither=true` instead of auto, unless the run is older than the key.

    Pictures of older runs stay as they are.
    """
    recorded = record.get("config")
    output = recorded.get("output") if isinstance(recorded, Mapping) else None
    if config.output.dither != AUTO or not isinstance(output, Mapping) or "dither" not in output:
        return config
    return replace(config, output=replace(config.output, dither=True))


def settings_of(config: Config, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a picture's metadata records."""
    # Without the workers' blocks, so that the same dream gives the same file on any farm.
    layout = replace(PrintLayout.from_record(record), blocks=None)
    bleed = picture_bleed(config.output)
    if layout.canvas is not None and not record.get("partial"):
        layout = replace(layout, bleed_px=bleed, trim=(layout.canvas[0] - 2 * bleed, layout.canvas[1] - 2 * bleed))
    touches = touch_settings(record)
    return {
        **config.picture_settings(),
        **({TOUCHES: touches} if touches else {}),
        "dreamed": record["objective"],
        "image_sha256": record["image_sha256"],
        "weights_sha256": record["weights_sha256"],
        LAYOUT_KEY: layout.to_settings(),
    }


def measure_colours(
    style: Style,
    targets: Sequence[Target],
    canvas: CanvasStore,
    config: Config,
    say: Say,
    reference: ColourReference | None = None,
) -> Style:
    """Return the style with the colours that the config asks for.

    With `output.match` and with `output.contrast`, the canvas is read once for all targets.

    Raises:
        UserError: The canvas, or the source with `output.match=source`, cannot be read.
    """
    output = config.output
    # Zarr targets hold the canvas unchanged, without colours.
    if all(target.form == "zarr" for target in targets):
        return style
    match = None
    with explain_damage():
        if reference is not None:
            say("measuring the canvas' colours for output.match")
            match = colour_map(measure_canvas(canvas), reference.measure(canvas.shape))
        if output.contrast is not None:
            say("measuring the canvas' luma for output.contrast")
        return replace(style, colour=measure_adjustment(canvas, output.saturation, output.contrast, match))


def style_digest(style: Style, canvas: str, *, is_wide: bool = False) -> str:
    """Return a digest of all that decides the bytes of a picture.

    Args:
        style: The picture's style.
        canvas: Token of the canvas.
        is_wide: True if the picture shows its source's colours beyond sRGB.

    Returns:
        A sha256, hex.
    """
    values = asdict(replace(style, wide_source=None))
    del values["wide_source"]
    if is_wide:
        values["wide"] = True
    # Pictures from before there was a choice are still those of their style.
    if style.colour.match is None:
        del values["colour"]["match"]
    if not style.profile.is_link:
        del values["profile"]["is_link"]
    if not style.dither:
        del values["dither"]
    if style.intent == RELATIVE:
        del values["intent"]
    for section in (values["profile"], values["metadata"]):
        for key, value in section.items():
            if isinstance(value, bytes):
                section[key] = hashlib.sha256(value).hexdigest()
    return hashlib.sha256(json.dumps([values, canvas, __version__], sort_keys=True).encode()).hexdigest()


def make_pictures(
    directory: RunDirectory,
    config: Config,
    profile: Profile,
    say: Say = lambda _line: None,
    reference: ColourReference | None = None,
    *,
    fetches: bool = False,
) -> list[Place]:
    """Write the missing pictures and the copies, and return the places of all pictures.

    The directory must be open. With `fetches`, the config is the user's own, and a source at a URL is read, too.
    Raises what `export` raises.
    """
    search = find_wide_source(config, profile, directory.record.get("image_sha256"), fetches=fetches)
    style = style_of(config, profile, directory.record, reference, search.source)
    canvas = directory.canvas()
    digest = style_digest(style, canvas.token, is_wide=search.source is not None)
    missing = _missing(directory, style, canvas.token, search)
    if missing:
        say_of_colours(config, search, say)
    style = measure_colours(style, missing, canvas, config, say, reference)
    for target in missing:
        place = directory.pictures.place(target)
        say(f"writing {place}")
        directory.pictures.make_room(target)
        write_target(canvas, target, style, config, directory.record, say)
        directory.pictures.add(target, digest)
        log.info("written: %s", place)
    return directory.pictures.publish()


def is_complete(
    directory: RunDirectory, config: Config, profile: Profile, reference: ColourReference | None = None
) -> bool:
    """Return whether a finished run has every picture that a config asks for, in its style."""
    directory.reopen_record()
    newest = directory.newest()
    if newest is None:
        return False
    search = find_wide_source(config, profile, directory.record.get("image_sha256"), fetches=True)
    style = style_of(config, profile, directory.record, reference, search.source)
    return not _missing(directory, style, newest.token, search)


def _missing(directory: RunDirectory, style: Style, canvas: str, search: SourceSearch) -> list[Target]:
    """Return the pictures that do not exist yet in a style, of the canvas with this token.

    If the source is missing, those with its colours beyond sRGB are as good.
    """
    digests = [style_digest(style, canvas, is_wide=search.source is not None)]
    if search.is_missing:
        digests.append(style_digest(style, canvas, is_wide=True))
    missing = [directory.pictures.missing(digest) for digest in digests]
    return [target for target in missing[0] if all(target in targets for targets in missing)]


def say_of_colours(config: Config, search: SourceSearch, say: Say) -> None:
    """Say what the pictures' colours lack, or do not mean."""
    if all(FORMATS[form].srgb_only for form in requested_pictures(config.output)):
        return
    if config.output.profile == GENERIC_CMYK:
        say("output.profile=cmyk is a generic CMYK and no press: for a print, take the profile that the shop names")
    if search.is_missing:
        say(
            f"the image {config.image} is gone or has changed, or is not on this machine: if it has colours beyond sRGB, "
            "the pictures are without them"
        )


def _add_source(zoom: Path, shape: tuple[int, int], config: Config, record: Mapping[str, Any], style: Style) -> bool:
    """Add a pyramid of the source to a zoom directory, laid out like the canvas.

    `shape` is that of the canvas, (rows, columns) px; the pyramid is at most `_MAX_SOURCE_SIDE` px long.

    Returns False if the source is not available.
    """
    shrink = max(1.0, max(shape) / _MAX_SOURCE_SIDE)
    small_shape = max(1, round(shape[0] / shrink)), max(1, round(shape[1] / shrink))
    # A separate directory, so that only the files of a large source are removed afterwards.
    with tempfile.TemporaryDirectory(prefix=".source-", dir=zoom) as levels:
        source = reopen_source(config, record.get("image_sha256"), Path(levels))
        if source is None:
            return False
        source.prepare(small_shape)
        pixels = np.empty((*small_shape, 3), np.uint8)
        for rect in whole(*small_shape).bands():
            pixels[slice(*rect.rows), slice(*rect.columns)] = to_integers(source.at(small_shape, rect), 8)
    write_zoom(CanvasImage(image_of(pixels)), zoom / SOURCE, style.encoding.quality)
    return True


def usable_profile(config: Config) -> Profile:
    """Return the profile to convert to, if all pictures can be made with it.

    Raises:
        UserError: The profile is bad, a format does not hold its colours, or libvips lacks the compression here.
    """
    profile = read_profile(config.output.profile)
    for form in requested_pictures(config.output):
        if profile.channels != 3 and not FORMATS[form].takes_cmyk and not FORMATS[form].srgb_only:
            raise UserError(
                f"output.profile={config.output.profile} is of {profile.space}, which {form} does not hold: "
                "set output.format=tiff"
            )
        if profile.is_link and form in _PROFILED:
            raise UserError(
                f"output.profile={config.output.profile} is a device link, and {form} needs the profile of a press: set "
                "output.format=tiff"
            )
        if FORMATS[form].compressions and not can_compress(config.output.compression):
            raise UserError(
                f"output.compression={config.output.compression}: libvips was built without it here; take deflate"
            )
    return profile


def record_at_octave(record: Mapping[str, Any], octave: int) -> dict[str, Any]:
    """Return the record as it would be if the run had ended at `octave`, counted from 0."""
    plan = record["plan"]
    octaves = plan["octaves"][: octave + 1]
    return {**record, "plan": {**plan, "octaves": octaves}, "partial": len(octaves) < len(plan["octaves"])}


def write_target(
    canvas: CanvasStore,
    target: Target,
    style: Style,
    config: Config,
    record: Mapping[str, Any],
    say: Say,
    *,
    keep: bool = False,
) -> None:
    """Write one picture of a canvas to the target's path; raise `UserError` if that fails.

    With `keep`, nothing is replaced.
    """

    def complete(directory: Path) -> None:
        """Add the page to a deep zoom picture, with the source to compare with; set the address of IIIF tiles."""
        if target.form == "iiif":
            if config.output.iiif_id is not None:
                set_address(directory, config.output.iiif_id)
            return
        if not _add_source(directory, canvas.shape, config, record, style):
            say("the page has no source to compare with: the image is gone or has changed, or is not on this machine")
        # The page is published: it has the settings of the picture, which name no directories.
        notice = write_viewer(directory, facts_of({**record, "config": config.picture_settings()}))
        if notice:
            say(notice)

    run = str(record["digest"])
    layout = PrintLayout.from_settings(style.metadata.settings or {})
    with explain_damage():
        if target.panels:
            panels = cut_for(config, canvas.shape)
            export_panels(canvas, target.path, target.form, style, panels, layout, run=run)
        else:
            pages = pages_for(config, canvas.shape, layout.bleed_px) if target.form == "pdf" else ()
            export(canvas, target.path, target.form, style, complete, run=run, keep=keep, sheets=pages)


@contextmanager
def explain_damage() -> Iterator[None]:
    """Turn `DamagedCheckpoint` into a `UserError` that says what to do."""
    try:
        yield
    except DamagedCheckpoint as damage:
        raise UserError(
            f"the canvas cannot be read ({damage}): if the run is still going, try again; else fresh=true dreams it again"
        ) from None
