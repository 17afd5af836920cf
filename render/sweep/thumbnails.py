"""Small pictures of finished ones, for contact sheets and browsers: beside the picture in its run directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyvips

from render.canvas.image import canvas_image
from render.canvas.store import CanvasStore
from render.config.formats import DREAM, FORMATS, format_of
from render.errors import DamagedCheckpoint, UserError
from render.export.metadata import srgb_profile
from render.export.picture import unwritable
from render.geometry.geometry import Rect
from render.pages.zoom_levels import Pyramid
from render.pages.zoom_page import PAGE, read_descriptor
from render.source.facts import open_file
from render.source.loaders import open_stream
from render.storage.local import replacing

THUMBNAIL, LARGE = "thumbnail.webp", "large.webp"
#: Longest side of what stands for a picture that a browser cannot show whole, px.
LARGE_SIDE = 2560
#: Pixels of a picture up to which it stands for itself.
MOST_PIXELS = 25_000_000

#: What browsers show.
_SHOWN = ("png", "jpeg", "webp")
#: What transparent pixels are laid over: white, as sources are by default.
_BACKGROUND = [255.0]
_THUMBNAIL_QUALITY, _LARGE_QUALITY = 82, 90


@dataclass(frozen=True)
class _Opened:
    """A picture of which no pixel has been read: `shrunk` gives it with a longest side of at most so many px.

    `is_large` tells those that a browser cannot show whole. `check` raises what could not be read meanwhile.
    """

    is_large: bool
    shrunk: Callable[[int], pyvips.Image]
    check: Callable[[], None] = lambda: None


def make_thumbnail(run_directory: Path, picture: Path, side: int) -> None:
    """Writes `thumbnail.webp`, the picture with a longest side of at most `side` px, into its run directory.

    `picture` is a finished one of any format, a file or a directory. Where no browser shows it, or it has more than 25
    megapixels, `large.webp` of at most 2560 px is written, too; else one that is there is removed. Both are sRGB of 8 bits
    without transparency, averaged over areas. Raises `UserError` where the picture cannot be read or they not be written.
    """
    try:
        with _opened(picture) as opened:
            # Held in memory: it may be needed twice, and what goes wrong from here on is a matter of writing.
            first = opened.shrunk(LARGE_SIDE if opened.is_large else side).copy_memory()
            opened.check()
    except DamagedCheckpoint as damage:
        raise _unreadable(picture, str(damage)) from None
    except (OSError, pyvips.Error) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise _unreadable(picture, lines[-1] if lines else "it is damaged") from None
    if opened.is_large:
        _write(run_directory / LARGE, first, _LARGE_QUALITY)
    _write(run_directory / THUMBNAIL, _down(first, side) if opened.is_large else first, _THUMBNAIL_QUALITY)
    if not opened.is_large:
        (run_directory / LARGE).unlink(missing_ok=True)


def shown_files(
    run_directory: Path, picture: Path, sweep: Path | None = None
) -> tuple[str | None, str | None, str | None, str | None]:
    """(picture, large, thumbnail, zoom) as `Shown` has them: what there is of a finished picture, None for what is not.

    Names are relative to the sweep's directory; without `sweep`, to that which has the run directory in its `points`.
    """
    base = sweep or run_directory.parent.parent
    whole = picture if format_of(picture.name) in _SHOWN and picture.is_file() else None
    # Beside the picture where output.also asked for it, or the picture itself.
    zoom = picture if picture.is_dir() else picture.with_name(f"{picture.stem}{FORMATS['dzi'].ending}")
    large = run_directory / LARGE
    files = (picture, large if large.is_file() else whole, run_directory / THUMBNAIL, zoom / PAGE)
    named = [Path(os.path.relpath(file, base)).as_posix() if file is not None and file.exists() else None for file in files]
    return named[0], named[1], named[2], named[3]


@contextmanager
def _opened(picture: Path) -> Iterator[_Opened]:
    """The picture, valid inside the context. Raises `UserError`, OSError, pyvips.Error or `DamagedCheckpoint`."""
    if (picture / f"{DREAM}.dzi").is_file():
        yield _Opened(True, lambda side: _zoom_level(picture, side))
    elif picture.is_dir():
        with canvas_image(CanvasStore(picture)) as made:
            yield _Opened(True, lambda side: _down(made.image, side), made.check)
    else:
        try:
            image, facts = open_file(picture)
        except UserError as error:
            raise _unreadable(picture, str(error)) from None
        is_shown = facts.kind in _SHOWN and image.interpretation != "cmyk"
        is_large = not is_shown or image.width * image.height > MOST_PIXELS
        yield _Opened(is_large, lambda side: _flat(_down(_level(picture, image, side), side, export_profile="srgb")))


def _level(picture: Path, image: pyvips.Image, side: int) -> pyvips.Image:
    """The image, or of a pyramid in a TIFF the least level that is not smaller than wanted."""
    found = image
    # libvips' own thumbnail finds levels as well, but takes a file that was cut short for a whole one.
    pages = image.get("n-pages") if image.get_typeof("n-pages") and image.get("vips-loader").startswith("tiff") else 1
    for page in range(1, pages):
        level = open_stream(picture, page=page)
        half = abs(level.width - found.width / 2) <= 1 and abs(level.height - found.height / 2) <= 1
        if not half or max(level.width, level.height) < side:
            break
        found = level
    return found


def _flat(image: pyvips.Image) -> pyvips.Image:
    """Three bands of 8 bits, sRGB."""
    image = image.colourspace("srgb")
    return image.flatten(background=_BACKGROUND) if image.hasalpha() else image


def _zoom_level(directory: Path, side: int) -> pyvips.Image:
    """A deep-zoom picture from its least level that is not smaller: whatever its size, a few hundred tiles."""
    described = read_descriptor(directory, DREAM)["Image"]
    size = described["Size"]
    pyramid = Pyramid(int(size["Height"]), int(size["Width"]), int(described["TileSize"]), int(described["Overlap"]))
    level = next((level for level in range(pyramid.top) if max(pyramid.shape(level)) >= side), pyramid.top)
    height, width = pyramid.shape(level)
    rows, columns = pyramid.tiles(level)
    parts = []
    for row in range(rows):
        for column in range(columns):
            covered = pyramid.rect(level, row, column)
            path = directory / f"{DREAM}_files" / str(level) / f"{column}_{row}.{described['Format']}"
            corner = row * pyramid.tile, column * pyramid.tile
            # Decoded now: hundreds of open files may be more than the system allows.
            parts.append(_without_overlap(open_stream(path), covered, corner, pyramid.tile).copy_memory())
    return _down(pyvips.Image.arrayjoin(parts, across=columns).crop(0, 0, width, height), side)


def _without_overlap(tile: pyvips.Image, covered: Rect, corner: tuple[int, int], side: int) -> pyvips.Image:
    """What a tile shows of its own square, which begins at `corner` (row, column)."""
    top, left = corner[0] - covered.rows.start, corner[1] - covered.columns.start
    return tile.crop(left, top, min(side, tile.width - left), min(side, tile.height - top))


def _down(image: pyvips.Image, side: int, **options: str) -> pyvips.Image:
    if image.get_typeof("icc-profile-data") and image.get("icc-profile-data") == srgb_profile():
        # As nearly all are: to convert it would take longer than all else.
        image = image.copy()
        image.remove("icc-profile-data")
    return image.thumbnail_image(side, height=side, size="down", **options)


def _write(path: Path, image: pyvips.Image, quality: int) -> None:
    try:
        content = image.webpsave_buffer(Q=quality, keep="none")
        with replacing(path) as file:
            file.write(content)
    except (OSError, pyvips.Error) as error:
        raise unwritable(path, error, "webp") from None


def _unreadable(picture: Path, why: str) -> UserError:
    return UserError(f"picture {picture} cannot be read ({why}): remove it, and the same command makes it again")
