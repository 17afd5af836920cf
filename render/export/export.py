"""Export of a canvas on disk to picture files; memory does not grow with the canvas."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyvips

from render.canvas import store as stores
from render.canvas.image import CanvasImage, CanvasPixels, canvas_image
from render.canvas.store import CanvasStore
from render.config.formats import DREAM, FORMATS
from render.config.schema import RELATIVE, OutputConfig
from render.dreaming.resample import Pixels
from render.export.colour import COLOUR_KEYS, ColourAdjustment
from render.export.dither import dithered
from render.export.iiif import write_iiif
from render.export.metadata import Metadata
from render.export.panel_map import map_picture
from render.export.panels import Panels
from render.export.pdf import PrintFile, write_pdf
from render.export.pdf_sheets import Sheet, lay_out_sheets
from render.export.picture import Encoding, unwritable, write_picture, write_tiles
from render.export.picture_directory import replacing_directory
from render.export.print_layout import KEY as LAYOUT_KEY
from render.export.print_layout import PrintLayout
from render.export.profile import Profile, convert
from render.export.psb import write_psb
from render.export.wide_canvas import WideCanvas, working_space
from render.source.wide_source import WideSource
from render.system import interrupts

#: Side of a Deep Zoom tile and overlap of neighbours, px, as viewers expect them.
_ZOOM_TILE, _ZOOM_OVERLAP = 254, 1
#: Longest side of the picture that the map of panels is drawn on, px.
_MAX_THUMBNAIL_SIDE = 1024


@dataclass(frozen=True)
class Style:
    """Settings that turn a canvas into a picture of any format.

    Format `zarr` uses only the metadata: it is the canvas itself, in floats and in its original colours.

    Attributes:
        bits: Bits of a channel, 8 or 16; formats that have only 8 ignore it.
        profile: ICC profile that the colours are converted to, except in formats that are always in sRGB.
        intent: Rendering intent of that conversion, one of `INTENTS`.
        dither: True to dither pictures of 8 bits.
        wide_source: Source whose colours beyond sRGB the pictures show; None for none.
        colour: Saturation and contrast.
        encoding: Quality and compression.
        metadata: Title, author, settings and resolution.
    """

    bits: int = 8
    profile: Profile = field(default_factory=Profile)
    intent: str = RELATIVE
    dither: bool = False
    wide_source: WideSource | None = None
    colour: ColourAdjustment = field(default_factory=ColourAdjustment)
    encoding: Encoding = field(default_factory=Encoding)
    metadata: Metadata = field(default_factory=Metadata)


def export(
    canvas: CanvasStore,
    path: Path,
    format_name: str,
    style: Style,
    complete: Callable[[Path], None] = lambda _directory: None,
    *,
    run: str = "",
    keep: bool = False,
    sheets: Sequence[Sheet] = (),
) -> None:
    """Write the canvas as a picture of any format.

    Args:
        canvas: The canvas.
        path: File, or directory for `dzi`, `iiif` and `zarr`. It gets this name only when it is complete.
        format_name: A key of `FORMATS`.
        style: Settings of the picture.
        complete: Function that completes a Deep Zoom or IIIF directory.
        run: Digest of the run, for a directory's marker.
        keep: True to raise `UserError` instead of replacing an existing picture.
        sheets: Pages of a PDF; empty for one page of the whole canvas.

    Raises:
        UserError: the picture cannot be written.
        DamagedCheckpoint: the canvas cannot be read.
    """
    if format_name == "zarr":
        _write_zarr(canvas, path, style, run, keep)
        return
    metadata = replace(style.metadata, profile=style.profile.embedded)
    # Pages of a print overlap, so the canvas is not read in order.
    with (
        extended_canvas(canvas, style, format_name, path.parent) as extended,
        styled_image(extended, style, format_name, random_access=format_name == "pdf") as picture,
    ):
        match format_name:
            case "dzi" | "iiif":
                with replacing_directory(path, run, keep=keep) as directory:
                    _write_tiled(picture, directory, path.name, format_name, style.encoding.quality)
                    complete(directory)
            case "pdf":
                pages = sheets or lay_out_sheets(canvas.shape, OutputConfig(dpi=metadata.dpi))
                write_pdf(path, PrintFile(picture, pages, style.profile, metadata, style.encoding), keep=keep)
            case "psb":
                write_psb(path, picture, metadata, keep=keep)
            case _:
                write_picture(path, picture.image, format_name, metadata, style.encoding, picture.check, keep=keep)


def _write_tiled(picture: CanvasImage, directory: Path, name: str, format_name: str, quality: int) -> None:
    """Write the tiles of a Deep Zoom or IIIF picture of this name into an empty directory."""
    if format_name == "dzi":
        write_zoom(picture, directory / DREAM, quality)
    else:
        write_iiif(picture, directory, name, quality)


@contextmanager
def extended_canvas(canvas: CanvasStore, style: Style, format_name: str, directory: Path) -> Iterator[CanvasPixels]:
    """Yield the canvas with its source's colours beyond sRGB, if the style has any and the format can show them.

    Args:
        canvas: The canvas.
        style: Settings of the picture.
        format_name: Format of the picture.
        directory: Directory for files of a source larger than memory meanwhile.

    Raises:
        UserError: the source cannot be read.
    """
    if style.wide_source is None or FORMATS[format_name].srgb_only:
        yield canvas
        return
    with style.wide_source.opened(canvas.shape, directory) as opened:
        yield WideCanvas(canvas, opened)


@contextmanager
def styled_image(
    canvas: CanvasPixels, style: Style, format_name: str, *, random_access: bool = False
) -> Iterator[CanvasImage]:
    """Yield the canvas as an image in the bits and colours of a format; see `canvas_image`."""
    form = FORMATS[format_name]
    bits = style.bits if style.bits in form.bits else 8
    profile = Profile() if form.srgb_only else style.profile
    is_dithered = style.dither and bits == 8
    # Colours are converted and dithered from 16 bits, whatever the picture has.
    canvas_bits = bits if profile.is_srgb and not is_dithered else 16
    with working_image(canvas, style.colour, canvas_bits, profile, random_access=random_access) as (picture, space):
        image = convert(picture.image, profile, 16 if is_dithered else bits, style.intent, space)
        yield replace(picture, image=dithered(image) if is_dithered else image)


@contextmanager
def working_image(
    canvas: CanvasPixels,
    colour: ColourAdjustment,
    bits: int,
    target: Profile | None = None,
    *,
    random_access: bool = False,
) -> Iterator[tuple[CanvasImage, bytes | None]]:
    """Yield the canvas as an image, and the profile that it is in; None for sRGB.

    Args:
        canvas: The canvas.
        colour: Saturation and contrast.
        bits: Bits of a channel.
        target: Profile that the image will be converted to: of a wide canvas, colours beyond it may be cut off already.
            None to keep all.
        random_access: True if the image will not be read once from top to bottom.
    """
    space = working_space(None if target is None else target.icc) if isinstance(canvas, WideCanvas) else None

    def to_space(pixels: Pixels) -> Pixels:
        adjusted = colour(pixels)
        return adjusted if space is None else space(adjusted)

    with canvas_image(canvas, bits, random_access=random_access, transform=to_space) as picture:
        yield picture, None if space is None else space.profile


def write_zoom(picture: CanvasImage, stem: Path, quality: int) -> None:
    """Write a Deep Zoom pyramid of JPEG tiles: `stem`.dzi and the directory `stem`_files.

    Args:
        picture: Image of 8 bits.
        stem: Path of the pyramid without an ending.
        quality: Quality of the tiles, 1 to 100.

    Raises:
        UserError: the pyramid cannot be written.
        OSError: the disk is full.
        DamagedCheckpoint: the canvas cannot be read.
    """
    try:
        write_tiles(picture.image, stem, "dz", quality, side=_ZOOM_TILE, overlap=_ZOOM_OVERLAP)
    except pyvips.Error as error:
        picture.check()
        raise unwritable(stem.parent, error, "dzi") from None
    picture.check()
    if not Path(f"{stem}.dzi").read_bytes().endswith(b">\n"):
        # libvips does not notice a full disk when it writes so little.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # It holds the time of day, which would make pictures differ, and nothing else that the descriptor lacks.
    (stem.parent / f"{stem.name}_files" / "vips-properties.xml").unlink(missing_ok=True)


def export_panels(
    canvas: CanvasStore, path: Path, format_name: str, style: Style, panels: Panels, layout: PrintLayout, *, run: str = ""
) -> None:
    """Write every panel of a print as a file, and their map as `map.png`.

    In PDF the panels are pages of the picture itself, so there is only the map.

    Args:
        canvas: The canvas, bleed included.
        path: Directory of the panels.
        format_name: Format of the files.
        style: Settings of the pictures.
        panels: Cuts of the canvas.
        layout: Layout of the whole print; each file gets it with its own origin.
        run: Digest of the run, for the directory's marker.

    Raises:
        UserError: a panel cannot be written.
        DamagedCheckpoint: the canvas cannot be read.
    """
    with replacing_directory(path, run) as directory:
        if format_name != "pdf":
            _write_panels(canvas, directory, format_name, style, panels, layout)
        map_picture(panels, _thumbnail(canvas, style)).save(directory / "map.png")


def _write_panels(
    canvas: CanvasStore, directory: Path, format_name: str, style: Style, panels: Panels, layout: PrintLayout
) -> None:
    """Write every panel into a directory; see `export_panels`."""
    # Random access, because the panels overlap.
    with (
        extended_canvas(canvas, style, format_name, directory) as extended,
        styled_image(extended, style, format_name, random_access=True) as picture,
    ):
        for panel in panels.panels:
            rows, columns = panel.rect
            part = picture.image.crop(columns.start, rows.start, columns.size, rows.size)
            panel_layout = replace(layout, origin=(rows.start, columns.start), panel=(rows.size, columns.size))
            settings = {**(style.metadata.settings or {}), LAYOUT_KEY: panel_layout.to_settings()}
            metadata = replace(style.metadata, settings=settings, profile=style.profile.embedded)
            panel_path = directory / f"{panel.name}{FORMATS[format_name].ending}"
            if format_name == "psb":
                write_psb(panel_path, replace(picture, image=part), metadata)
            else:
                write_picture(panel_path, part, format_name, metadata, style.encoding, picture.check)


def _thumbnail(canvas: CanvasStore, style: Style) -> np.ndarray:
    """Return a small picture of the canvas, (rows, columns, 3) uint8 sRGB."""
    with canvas_image(canvas, transform=style.colour) as picture:
        small = picture.image.thumbnail_image(_MAX_THUMBNAIL_SIDE, height=_MAX_THUMBNAIL_SIDE, size="down").numpy()
        picture.check()
    return small


def _write_zarr(canvas: CanvasStore, path: Path, style: Style, run: str, keep: bool) -> None:
    """Write a copy of the float canvas, with the settings, except of colours, as attributes."""
    settings = dict(style.metadata.settings or {})
    if "output" in settings:
        settings["output"] = {key: value for key, value in settings["output"].items() if key not in COLOUR_KEYS}
    attributes = {"settings": settings, "value_range": [0, 255], "colours": "sRGB"}
    with replacing_directory(path, run, keep=keep) as directory:
        array = directory / "array"
        try:
            stores.create(array, canvas.shape, "", attributes)
            copy = CanvasStore(array, mode="r+")
            for rect in canvas.rect.bands(multiple=stores.CHUNK):
                interrupts.check()
                copy.write(rect, canvas.read(rect))
        except OSError as error:
            raise unwritable(path, error, "zarr") from None
        for part in array.iterdir():
            part.rename(directory / part.name)
        array.rmdir()
