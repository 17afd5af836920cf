"""Small versions of finished pictures, for contact sheets and browsers."""

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
from render.source.loaders import open_stream
from render.source.picture_info import open_file
from render.storage.local import replacing

#: File names in a run directory.
THUMBNAIL, LARGE = "thumbnail.webp", "large.webp"
#: Longest side of `large.webp`, which replaces a picture that a browser cannot show whole, px.
MAX_LARGE_SIDE = 2560
#: Largest number of pixels of a picture that a browser shows whole.
MAX_BROWSER_PIXELS = 25_000_000

#: Formats that browsers show.
_BROWSER_FORMATS = ("png", "jpeg", "webp")
#: Background of transparent pixels: white, the default of sources.
_BACKGROUND = [255.0]
_THUMBNAIL_QUALITY, _LARGE_QUALITY = 82, 90


@dataclass(frozen=True)
class _OpenedPicture:
    """Picture whose pixels have not been read.

    Attributes:
        is_large: True if a browser cannot show it whole.
        shrunk: Returns it with a longest side of at most so many px.
        check: Raises the errors of reading, if there were any.
    """

    is_large: bool
    shrunk: Callable[[int], pyvips.Image]
    check: Callable[[], None] = lambda: None


def make_thumbnail(run_directory: Path, picture: Path, side: int) -> None:
    """Write `thumbnail.webp`, with a longest side of at most `side` px, into a run directory.

    `picture` is a finished one of any format, a file or a directory. If browsers cannot show it, or it has more than 25
    megapixels, `large.webp` of at most 2560 px is written too; otherwise an existing one is removed. Both are 8-bit sRGB
    without transparency, averaged over areas.

    Raises:
        UserError: If the picture cannot be read or a file cannot be written.
    """
    image, is_large = _in_memory(picture, lambda is_large: MAX_LARGE_SIDE if is_large else side)
    if is_large:
        _write(run_directory / LARGE, image, _LARGE_QUALITY)
    _write(run_directory / THUMBNAIL, _shrunk(image, side) if is_large else image, _THUMBNAIL_QUALITY)
    if not is_large:
        (run_directory / LARGE).unlink(missing_ok=True)


def has_thumbnail(run_directory: Path, picture: Path) -> bool:
    """Return whether a run directory has a thumbnail that is not older than its picture, which a touch writes anew."""
    try:
        return (run_directory / THUMBNAIL).stat().st_mtime_ns >= picture.stat().st_mtime_ns
    except OSError:
        return False


def small_picture(picture: Path, side: int) -> pyvips.Image:
    """Return a finished picture of any format with a longest side of at most `side` px, 8-bit sRGB, in memory.

    Raises:
        UserError: It cannot be read.
    """
    return _in_memory(picture, lambda _: side)[0]


def _in_memory(picture: Path, side_of: Callable[[bool], int]) -> tuple[pyvips.Image, bool]:
    """Return a picture in memory, and whether a browser cannot show it whole.

    `side_of` returns its longest side, px, given the latter. Raise `UserError` if the picture cannot be read.
    """
    try:
        with _open_picture(picture) as opened:
            # Keep it in memory: it may be needed twice, and later errors are then errors of writing.
            image = opened.shrunk(side_of(opened.is_large)).copy_memory()
            opened.check()
    except DamagedCheckpoint as damage:
        raise _unreadable(picture, str(damage)) from None
    except (OSError, pyvips.Error) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise _unreadable(picture, lines[-1] if lines else "it is damaged") from None
    return image, opened.is_large


def picture_size(picture: Path) -> tuple[int, int] | None:
    """Return (rows, columns) px of a picture; None if it cannot be read or is none that a sheet can show."""
    if picture.is_dir():
        try:
            image = small_picture(picture, MAX_LARGE_SIDE)
        except UserError:
            return None
        return image.height, image.width
    try:
        image, _ = open_file(picture)
    except (UserError, OSError, pyvips.Error):
        return None
    return image.height, image.width


def shown_files(
    run_directory: Path, picture: Path, sweep_directory: Path | None = None
) -> tuple[str | None, str | None, str | None, str | None]:
    """Return (picture, large, thumbnail, zoom) as in `ShownPoint`; None for missing files.

    Names are relative to `sweep_directory`; by default it is the one whose `points` has the run directory.
    """
    base_directory = sweep_directory or run_directory.parent.parent
    browser_picture = picture if format_of(picture.name) in _BROWSER_FORMATS and picture.is_file() else None
    # It is the picture itself, or beside it if output.also asked for it.
    zoom = picture if picture.is_dir() else picture.with_name(f"{picture.stem}{FORMATS['dzi'].ending}")
    large = run_directory / LARGE
    files = (picture, large if large.is_file() else browser_picture, run_directory / THUMBNAIL, zoom / PAGE)
    names = [
        Path(os.path.relpath(file, base_directory)).as_posix() if file is not None and file.exists() else None
        for file in files
    ]
    return names[0], names[1], names[2], names[3]


@contextmanager
def _open_picture(picture: Path) -> Iterator[_OpenedPicture]:
    """Open the picture for this context.

    Raise `UserError`, OSError, pyvips.Error or `DamagedCheckpoint`.
    """
    if (picture / f"{DREAM}.dzi").is_file():
        yield _OpenedPicture(True, lambda side: _zoom_level(picture, side))
    elif picture.is_dir():
        with canvas_image(CanvasStore(picture)) as canvas:
            yield _OpenedPicture(True, lambda side: _shrunk(canvas.image, side), canvas.check)
    else:
        try:
            image, facts = open_file(picture)
        except UserError as error:
            raise _unreadable(picture, str(error)) from None
        is_shown = facts.kind in _BROWSER_FORMATS and image.interpretation != "cmyk"
        is_large = not is_shown or image.width * image.height > MAX_BROWSER_PIXELS
        yield _OpenedPicture(
            is_large, lambda side: _flattened(_shrunk(_level(picture, image, side), side, export_profile="srgb"))
        )


def _level(picture: Path, image: pyvips.Image, side: int) -> pyvips.Image:
    """Return the image, or for a TIFF pyramid its smallest level of at least `side` px."""
    smallest = image
    # libvips' own thumbnail finds levels too, but accepts truncated files.
    pages = image.get("n-pages") if image.get_typeof("n-pages") and image.get("vips-loader").startswith("tiff") else 1
    for page in range(1, pages):
        level = open_stream(picture, page=page)
        half = abs(level.width - smallest.width / 2) <= 1 and abs(level.height - smallest.height / 2) <= 1
        if not half or max(level.width, level.height) < side:
            break
        smallest = level
    return smallest


def _flattened(image: pyvips.Image) -> pyvips.Image:
    """Return the image as sRGB of three 8-bit bands."""
    image = image.colourspace("srgb")
    return image.flatten(background=_BACKGROUND) if image.hasalpha() else image


def _zoom_level(directory: Path, side: int) -> pyvips.Image:
    """Return a deep-zoom picture from its smallest level of at least `side` px.

    Such a level has a few hundred tiles at most.
    """
    descriptor = read_descriptor(directory, DREAM)["Image"]
    size = descriptor["Size"]
    pyramid = Pyramid(int(size["Height"]), int(size["Width"]), int(descriptor["TileSize"]), int(descriptor["Overlap"]))
    level = next((level for level in range(pyramid.top) if max(pyramid.shape(level)) >= side), pyramid.top)
    height, width = pyramid.shape(level)
    rows, columns = pyramid.tiles(level)
    parts = []
    for row in range(rows):
        for column in range(columns):
            covered = pyramid.rect(level, row, column)
            path = directory / f"{DREAM}_files" / str(level) / f"{column}_{row}.{descriptor['Format']}"
            corner = row * pyramid.tile, column * pyramid.tile
            # Decode now: hundreds of open files may exceed the system's limit.
            parts.append(_without_overlap(open_stream(path), covered, corner, pyramid.tile).copy_memory())
    return _shrunk(pyvips.Image.arrayjoin(parts, across=columns).crop(0, 0, width, height), side)


def _without_overlap(tile: pyvips.Image, covered: Rect, corner: tuple[int, int], side: int) -> pyvips.Image:
    """Return a tile without its overlap: its square, which begins at `corner` (row, column)."""
    top, left = corner[0] - covered.rows.start, corner[1] - covered.columns.start
    return tile.crop(left, top, min(side, tile.width - left), min(side, tile.height - top))


def _shrunk(image: pyvips.Image, side: int, **options: str) -> pyvips.Image:
    """Return the image with a longest side of at most `side` px.

    `options` are those of libvips' thumbnails.
    """
    if image.get_typeof("icc-profile-data") and image.get("icc-profile-data") == srgb_profile():
        # Nearly all pictures are sRGB; a conversion would take longer than everything else.
        image = image.copy()
        image.remove("icc-profile-data")
    return image.thumbnail_image(side, height=side, size="down", **options)


def _write(path: Path, image: pyvips.Image, quality: int) -> None:
    """Write a WebP file atomically. Raise `UserError` if it cannot be written."""
    try:
        content = image.webpsave_buffer(Q=quality, keep="none")
        with replacing(path) as file:
            file.write(content)
    except (OSError, pyvips.Error) as error:
        raise unwritable(path, error, "webp") from None


def _unreadable(picture: Path, problem: str) -> UserError:
    """Return the error for a picture that cannot be read."""
    return UserError(f"picture {picture} cannot be read ({problem}): remove it, and the same command makes it again")
