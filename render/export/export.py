"""Export of a canvas on disk to files for printers, museums and browsers. Memory does not grow with the canvas."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyvips

from render.canvas import store as stores
from render.canvas.image import CanvasImage, canvas_image
from render.canvas.store import CanvasStore
from render.config.formats import DREAM, FORMATS
from render.export.colour import COLOUR_KEYS, Colour
from render.export.metadata import Metadata
from render.export.panel_map import map_picture
from render.export.panels import Panels
from render.export.picture import Encoding, unwritable, write_picture
from render.export.picture_directory import replacing_directory
from render.export.print_layout import KEY as LAYOUT_KEY
from render.export.print_layout import PrintLayout
from render.export.profile import Profile, converted
from render.system import interrupts
from render.system.watched import in_thread

#: Deep Zoom as its viewers expect it: tiles of 254 px that overlap by one.
_ZOOM_TILE, _ZOOM_OVERLAP = 254, 1
#: Longest side of the picture under the map of panels, px.
_MAP_SIDE = 1024


@dataclass(frozen=True)
class Style:
    """Settings that turn a canvas into a picture of any format: `bits` a channel, colours, compression and metadata.

    Format `zarr` uses only the metadata: it is the canvas itself, in floats and in its original colours.
    """

    bits: int = 8
    profile: Profile = field(default_factory=Profile)
    colour: Colour = field(default_factory=Colour)
    encoding: Encoding = field(default_factory=Encoding)
    metadata: Metadata = field(default_factory=Metadata)


def export(
    canvas: CanvasStore,
    path: Path,
    form: str,
    style: Style,
    complete: Callable[[Path], None] = lambda _directory: None,
    *,
    run: str = "",
    keep: bool = False,
) -> None:
    """Write the canvas as `form` to `path`, a file or a directory, which gets that name only when it is complete.

    `complete` adds further files to a Deep Zoom directory; `run` is the digest of the run, for a directory's marker. With
    `keep` no existing file is replaced.
    Raises `UserError` when it cannot be written and `DamagedCheckpoint` when the canvas cannot be read.
    """
    if form == "zarr":
        _write_zarr(canvas, path, style, run, keep)
        return
    with styled_image(canvas, style, form) as picture:
        if form == "dzi":
            with replacing_directory(path, run, keep=keep) as directory:
                write_zoom(picture, directory / DREAM, style.encoding.quality)
                complete(directory)
        else:
            metadata = replace(style.metadata, profile=style.profile.icc)
            write_picture(path, picture.image, form, metadata, style.encoding, picture.check, keep=keep)


@contextmanager
def styled_image(canvas: CanvasStore, style: Style, form: str, *, random: bool = False) -> Iterator[CanvasImage]:
    """Yield the canvas as an image in the bits and colours of a format; see `image.canvas_image`."""
    bits = style.bits if style.bits in FORMATS[form].bits else 8
    foreign = style.profile.content is not None
    with canvas_image(canvas, 16 if foreign else bits, random=random, shown=style.colour) as picture:
        yield replace(picture, image=converted(picture.image, style.profile, bits))


def write_zoom(made: CanvasImage, stem: Path, quality: int) -> None:
    """Write a Deep Zoom pyramid of JPEG tiles: `stem`.dzi and the directory `stem`_files."""
    try:
        in_thread(
            lambda: made.image.dzsave(
                os.fsencode(stem),
                layout="dz",
                suffix=f".jpg[Q={quality},subsample-mode=off]",
                tile_size=_ZOOM_TILE,
                overlap=_ZOOM_OVERLAP,
                keep="none",
            )
        )
    except pyvips.Error as error:
        made.check()
        raise unwritable(stem.parent, error, "dzi") from None
    made.check()
    if not Path(f"{stem}.dzi").read_bytes().endswith(b">\n"):
        # libvips does not notice a full disk when it writes so little.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # It holds the time of day, and no fact that the descriptor lacks.
    (stem.parent / f"{stem.name}_files" / "vips-properties.xml").unlink(missing_ok=True)


def export_panels(
    canvas: CanvasStore, path: Path, form: str, style: Style, panels: Panels, layout: PrintLayout, *, run: str = ""
) -> None:
    """Write every panel of a print as a file, named as on the map, which is saved beside them as `map.png`.

    `layout` is that of the whole print, `run` as for `export`. Raises the errors of `export`.
    """
    # Random access, because the panels overlap.
    with styled_image(canvas, style, form, random=True) as picture, replacing_directory(path, run) as directory:
        for panel in panels.panels:
            rows, columns = panel.rect
            part = picture.image.crop(columns.start, rows.start, columns.size, rows.size)
            panel_layout = replace(layout, origin=(rows.start, columns.start))
            settings = {**(style.metadata.settings or {}), LAYOUT_KEY: panel_layout.to_settings()}
            metadata = replace(style.metadata, settings=settings, profile=style.profile.icc)
            name = f"{panel.name}{FORMATS[form].ending}"
            write_picture(directory / name, part, form, metadata, style.encoding, picture.check)
        map_picture(panels, _thumbnail(canvas, style)).save(directory / "map.png")


def _thumbnail(canvas: CanvasStore, style: Style) -> np.ndarray:
    """Return the canvas, small: (rows, columns, 3) uint8, at most 1024 px a side."""
    with canvas_image(canvas, shown=style.colour) as picture:
        small = picture.image.thumbnail_image(_MAP_SIDE, height=_MAP_SIDE, size="down").numpy()
        picture.check()
    return small


def _write_zarr(canvas: CanvasStore, path: Path, style: Style, run: str, keep: bool) -> None:
    """Write a Zarr array of the float canvas, with the settings, except those of colours, among its attributes."""
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
