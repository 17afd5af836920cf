"""Checks of a picture file before it is printed: resolution, colours, clipping and seams.

libvips reads the file once, strip by strip, so that memory does not grow with its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import ImageCms

from render.errors import UserError
from render.export.metadata import read_settings, srgb_profile
from render.export.print_layout import PrintLayout
from render.geometry.geometry import whole
from render.preflight.detail import DetailMeter
from render.preflight.facts import Clipping, Report
from render.preflight.header import Header, read_header
from render.preflight.icc import PICTURE_CLASSES, IccFacts, read_icc
from render.preflight.ink import InkMeter, separation
from render.preflight.order import PrintOrder
from render.preflight.samples import Sampler
from render.preflight.seams import MIN_TILE_PX, SeamMeter
from render.preflight.tones import ToneMeter
from render.source.decoding import tiles_checked
from render.source.loaders import identify
from render.source.picture_info import PictureInfo, open_file

#: Smallest strip, bytes. glibc returns pieces of more than 32 MB (its largest M_MMAP_THRESHOLD) to the system when they
#: are freed; smaller ones left holes in the heap, in some runs as large as the picture.
_MIN_STRIP_BYTES = 40_000_000
#: Sampled columns that are measured at once.
_COLUMN_BATCH = 32
_WHITE = {"uchar": 255, "ushort": 65535}
_DTYPE = {"uchar": np.uint8, "ushort": np.uint16}
_COLOURS = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("cyan", "magenta", "yellow", "black")}


@dataclass(frozen=True)
class Request:
    """File to check.

    `tile`, (rows, columns) px, or a run's `record` tell the tile borders if the file does not. `order` has the limits that
    it must keep.
    """

    file: Path
    tile: tuple[int, int] | None = None
    record: Mapping[str, Any] | None = None
    as_json: bool = False
    order: PrintOrder | None = None


def inspect(request: Request) -> Report:
    """Return the report on a picture file. Raise `UserError` if it cannot be printed or read."""
    path = request.file
    header = _header(path)
    settings = _settings(path)
    try:
        picture, facts, colours = _open(path)
        shape = picture.height, picture.width
        layout, note = _layout(request, settings, shape)
        icc = read_icc(_field(picture, "icc-profile-data"))
        meters = _Meters(picture, colours, layout, _ink_meter(picture, colours, icc, request.order))
        meters.read()
        tones = meters.tones.result()
    except pyvips.Error as error:
        raise _damaged(path, error) from None
    blocks = layout.block_borders(shape)
    return Report(
        file=str(path),
        file_bytes=path.stat().st_size,
        header=header,
        shape=shape,
        bits=8 if meters.white == 255 else 16,
        colour="CMYK" if len(colours) == 4 else "RGB" if len(colours) == 3 else "grey",
        transparent=facts.channels.alpha is not None,
        turned=_field(picture, "orientation") not in (None, 1),
        profile=None if icc is None else icc.name,
        has_profile=_field(picture, "icc-profile-data") is not None,
        layout=layout,
        clipped=meters.clipped,
        seams=meters.seams.result(),
        block_seams=meters.seams.result(*blocks) if blocks[0] or blocks[1] else None,
        seams_note=note,
        space=None if facts.space is None else facts.space.name,
        extra_channels=picture.bands - len(colours) - (facts.channels.alpha is not None),
        exact=_exact(settings or (request.record or {}).get("config", {})),
        icc=icc,
        ink=None if meters.ink is None else meters.ink.result(),
        tones=tones,
        detail=meters.detail.result(tones.levels),
        order=request.order,
    )


def _open(path: Path) -> tuple[pyvips.Image, PictureInfo, tuple[str, ...]]:
    """Return the picture, its facts, and its colours. Raise `UserError` if it cannot be printed."""
    with _named_file():
        picture, facts = open_file(path)
    if picture.format not in _WHITE or picture.coding != "none":
        raise UserError(f"file {str(path)!r} holds samples of type {picture.format}: save it with 8 or 16 bits")
    colours = _COLOURS.get(facts.channels.colours)
    if colours is None or (len(colours) == 4 and picture.interpretation != "cmyk"):
        raise UserError(f"file {str(path)!r} has {picture.bands} channels: save it as RGB, CMYK or grey")
    return picture, facts, colours


class _Meters:
    """All that is measured while a picture is read once, strip by strip."""

    def __init__(self, picture: pyvips.Image, colours: Sequence[str], layout: PrintLayout, ink: InkMeter | None) -> None:
        self._picture, self._colours, self.ink = picture, colours, ink
        shape = picture.height, picture.width
        self.white = _WHITE[picture.format]
        self.seams = SeamMeter(shape, *layout.tile_borders(shape), white=self.white)
        self.tones = ToneMeter(len(colours), self.white)
        self.detail = DetailMeter(shape, self.white)
        self._sampler = Sampler(shape, len(colours), _DTYPE[picture.format])
        self._low, self._high = np.zeros(len(colours), np.int64), np.zeros(len(colours), np.int64)

    def read(self) -> None:
        """Read the picture. Raise `pyvips.Error` if it is damaged."""
        with tiles_checked(self._picture):
            for strip in _strips(self._picture, len(self._colours)):
                # Channel by channel: twenty times as fast as one call along axes.
                channels = range(len(self._colours))
                self._low += [np.count_nonzero(strip[..., channel] == 0) for channel in channels]
                self._high += [np.count_nonzero(strip[..., channel] == self.white) for channel in channels]
                self.seams.add(strip)
                if self.ink is not None:
                    self.ink.add(strip)
                self._add_lines(self._sampler.rows(strip), axis=1)
        columns = self._sampler.columns
        for first in range(0, len(columns), _COLUMN_BATCH):
            self._add_lines(columns[first : first + _COLUMN_BATCH], axis=0)

    def _add_lines(self, lines: NDArray[Any], axis: int) -> None:
        self.tones.add(lines, axis)
        self.detail.add(lines, axis)

    @property
    def clipped(self) -> tuple[Clipping, ...]:
        """The clipped shares by colour."""
        area = self._picture.height * self._picture.width
        return tuple(
            Clipping(name, int(self._low[channel]) / area, int(self._high[channel]) / area)
            for channel, name in enumerate(self._colours)
        )


def _ink_meter(
    picture: pyvips.Image, colours: Sequence[str], icc: IccFacts | None, order: PrintOrder | None
) -> InkMeter | None:
    """Return a meter of the ink of CMYK pixels, or of those that the ordered press makes of others; None without either."""
    if len(colours) == 4:
        return InkMeter()
    if order is None or order.profile is None:
        return None
    is_usable = len(colours) == 3 and icc is not None and icc.space == "RGB" and icc.device_class in PICTURE_CLASSES
    source = _field(picture, "icc-profile-data") if is_usable and icc is not None and icc.name else srgb_profile()
    for profile in (source, srgb_profile()):
        with suppress(ImageCms.PyCMSError):
            return InkMeter(separation(profile, order.profile.icc))
    raise UserError("spec.profile cannot be converted to: name the profile of a press, with tables for both directions")


@contextmanager
def _named_file() -> Iterator[None]:
    """Make errors from inside name the picture `file`, as preflight does, instead of `image`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"file {str(error).removeprefix('image ')}") from None


def _header(path: Path) -> Header:
    try:
        if path.suffix.lower() == ".dzi":
            raise UserError(f"file {str(path)!r} is a pyramid for screens: give the TIFF, PNG or JPEG that goes to print")
        if path.is_dir():
            raise UserError(f"file {str(path)!r} is a directory: name a picture in it, or say run={path}")
        if path.exists() and not path.is_file():
            raise UserError(f"file {str(path)!r} is not a file but a device or pipe: name a picture")
        with _named_file():
            identify(path)
        header = read_header(path)
    except OSError as error:
        raise UserError(f"file {str(path)!r} cannot be read ({error.strerror}): name a picture") from None
    if header is None:
        raise UserError(f"file {str(path)!r} is no whole PNG, JPEG, WebP or TIFF picture: name one of these")
    return header


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        return read_settings(path)
    except (OSError, SyntaxError, ValueError):
        # This program did not write the file.
        return {}


def _layout(request: Request, settings: Mapping[str, Any], shape: tuple[int, int]) -> tuple[PrintLayout, str | None]:
    """Return the file's layout, and the reason if borders are not known or cannot be measured."""
    layout = PrintLayout.from_settings(settings)
    if request.record is not None and layout.tiles is None:
        layout = PrintLayout.from_record(request.record)
    if request.tile is not None:
        layout = replace(layout, canvas=None, tiles=request.tile, blocks=None)
    without_tiles = replace(layout, canvas=None, tiles=None, blocks=None, origin=(0, 0))
    if layout.tiles is None:
        return without_tiles, "borders not known: say tile=PX, or run=DIR of the run that made it"
    if not layout.lies_on_canvas(shape):
        rows, columns = layout.canvas or (0, 0)
        return without_tiles, f"not measured: the canvas was {columns} x {rows} px, so the file was resized or cut since"
    if min(layout.tiles) < MIN_TILE_PX:
        return layout, f"not measured along sides of tiles under {MIN_TILE_PX} px"
    if not any(layout.tile_borders(shape)):
        return layout, "one tile, no borders"
    return layout, None


def _exact(settings: Mapping[str, Any]) -> bool | None:
    """Return whether the settings of a picture or run have exact halos; None if they do not say."""
    tiles = settings.get("tiles")
    return tiles["halo"] == "exact" if isinstance(tiles, Mapping) and "halo" in tiles else None


def _strips(picture: pyvips.Image, channels: int) -> Iterator[NDArray[Any]]:
    """Yield the picture from the top in strips: (rows, columns, channels), without transparency."""
    region = pyvips.Region.new(picture)
    dtype: Any = _DTYPE[picture.format]
    rows = max(1, -(-_MIN_STRIP_BYTES // (picture.width * picture.bands * np.dtype(dtype).itemsize)))
    for rect in whole(picture.height, picture.width).bands(rows * picture.width):
        fetched = region.fetch(0, rect.rows.start, picture.width, rect.rows.size)
        yield np.frombuffer(fetched, dtype).reshape(*rect.shape, picture.bands)[..., :channels]


def _field(picture: pyvips.Image, name: str) -> Any:
    return picture.get(name) if picture.get_typeof(name) else None


def _damaged(path: Path, error: pyvips.Error) -> UserError:
    details = [line.strip() for line in (str(error.detail) or error.message).splitlines() if line.strip()]
    return UserError(f"file {str(path)!r} is no whole picture ({details[-1] if details else 'damaged'}): export it again")
