"""Masks: grey pictures that say where, and how strongly, to dream: white dreams, black leaves the source as it is.

A mask belongs to the source picture and is stretched to its frame, so that crop, fit and bleed of the source apply to the
mask as well. Its values are shares, not light: they are used as stored in the file, whatever profile is embedded, and
resampled linearly, so that no value exceeds black or white and no ripple enters black areas.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyvips
from numpy.typing import NDArray

from render.config.schema import SourceConfig
from render.dreaming.resample import TENT, Pixels, resample_window
from render.errors import UserError
from render.geometry.geometry import AxisMode, Rect, whole
from render.geometry.source_window import SourceWindow
from render.source.beyond import Sampling, reading_beyond
from render.source.decoding import decoded_rows
from render.source.facts import open_file
from render.source.photo import not_whole, orientation, refuse_bomb
from render.source.source import find_picture
from render.source.tiff_picture import Channels
from render.source.turning import TURNS

#: Version of the rule that makes a mask of a file; change it whenever the same file gives another mask.
_RULE = 2
#: Most samples along a side that are held in memory.
_MOST = 4096
#: Most samples per sigma of a blur: finer detail is lost in the blur.
_TO_SIGMA = 8
#: Smallest blur other than none, in per cent of the short side.
_SHARPEST = 1e-3
#: Steps from black to white in `at`: few enough for 1 to stay exactly 1 despite the rounding of weights.
_STEPS = 65536
#: Side of the grid on which the mean over the canvas is computed.
_GRID = 256
_KEYS = ("image", "invert", "feather")
#: Value of white in each type of sample that libvips reads.
_WHITE = {
    **{"uchar": 2.0**8 - 1, "ushort": 2.0**16 - 1, "uint": 2.0**32 - 1, "float": 1.0, "double": 1.0},
    **{"char": 2.0**7 - 1, "short": 2.0**15 - 1, "int": 2.0**31 - 1},
}
#: Largest distance of float samples outside 0..1.
_SLACK = 1e-3
#: Weights of red, green and blue in luma (ITU-R BT.709).
_LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Mask:
    """A mask held in memory: (rows, columns, 1) float32, 0..1.

    Attributes:
        name: name of the mask in messages.
        rows: sampling of the picture's rows.
        columns: sampling of the picture's columns.
        around: value around the picture, where the canvas shows more than the picture.
        modes: how the canvas' (rows, columns) continue beyond their ends.
        coverage: mean over the part that the canvas shows.
    """

    name: str
    sha256: str
    pixels: Pixels = field(repr=False, compare=False)
    rows: Sampling
    columns: Sampling
    around: float = 0.0
    modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")
    window: SourceWindow | None = None
    coverage: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture in its file, upright, px."""
        return self.rows.length, self.columns.length

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""
        return self.pixels.nbytes

    def laid_out(self, window: SourceWindow | None) -> Mask:
        """Return the mask on a canvas that shows `window` of the source, in the source's px; with None the mask fills it.

        Raises:
            UserError: the shown part is black everywhere.
        """
        mask = replace(self, window=window)
        values = mask._resampled((_GRID, _GRID), whole(_GRID, _GRID))
        if not values.any():
            part = "" if window is None else " in the part of the picture that the canvas shows"
            raise UserError(
                f"{self.name} matches nothing: it is black{part}; paint white where to dream, or set invert: true"
            )
        return replace(mask, coverage=float(values.mean(dtype=np.float64)))

    def at(self, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
        """Return a rectangle of the mask on a canvas of `shape` (rows, columns): (rows, columns) float32, 0..1.

        Black and white are exactly 0 and 1, and the parts of a rectangle are bit-identical to the whole.
        """
        if not rect.area:
            return np.zeros(rect.shape, np.float32)
        shares = self._resampled(shape, rect)
        return np.rint(shares * np.float32(_STEPS), out=shares) / np.float32(_STEPS)

    def _resampled(self, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
        window = self.window or SourceWindow.whole(self.size, self.modes)
        rows, columns = _stretched(self.rows, window.rows.length), _stretched(self.columns, window.columns.length)
        shown = SourceWindow(rows.span(window.rows), columns.span(window.columns))
        read = reading_beyond(self._read, rows, columns, shown, [self.around])
        return np.clip(resample_window(read, shown, shape, rect, TENT)[..., 0], 0.0, 1.0)

    def _read(self, rect: Rect) -> Pixels:
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


def open_mask(
    written: str | Mapping[str, Any],
    how: SourceConfig,
    key: str,
    modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect"),
) -> Mask:
    """Return the mask that `written` describes.

    Colours become luma, transparency becomes black; float samples are taken as 0..1. Large pictures are shrunk while they
    are read. Around the picture (`output.fit=contain`) the mask is black, or white where it is inverted.

    Args:
        written: a path or `sample:NAME`, or a mapping of `image`, `invert` and `feather`. `feather` is the sigma of a
            Gaussian blur in per cent of the mask's short side; it wraps around on an axis whose mode is `wrap`.
        how: settings of the source; `how.max_megapixels` limits the picture.
        key: config key, for messages.
        modes: how the canvas' (rows, columns) continue beyond their ends.

    Raises:
        UserError: settings or file cannot be a mask, or the mask is black everywhere. The message names the config key.
    """
    image, invert, feather = _settings(written, key)
    try:
        path, digest = find_picture(image, "a path or sample:NAME")
        pixels, rows, columns = _read_shares(path, how)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    identity = json.dumps([_RULE, digest, invert, feather, modes])
    sha256 = hashlib.sha256(identity.encode()).hexdigest()
    mask = Mask(f"{key} {image!r}", sha256, pixels[..., None], rows, columns, modes=modes)
    if feather:
        mask = _feathered(mask, feather / 100)
    if invert:
        mask = replace(mask, pixels=1 - mask.pixels, around=1.0)
    return mask.laid_out(None)


def _settings(written: object, key: str) -> tuple[str, bool, float]:
    """Return image, invert and feather from the config, checked."""
    if isinstance(written, str):
        return written, False, 0.0
    if not isinstance(written, Mapping):
        raise UserError(
            f"{key}={written!r} is no mask: give a path, sample:NAME or {{image: ..., invert: ..., feather: ...}}"
        )
    for name in written:
        if name not in _KEYS:
            close_names = difflib.get_close_matches(str(name), _KEYS, n=1)
            hint = f"did you mean {close_names[0]!r}?" if close_names else f"a mask has {', '.join(_KEYS)}"
            raise UserError(f"{key} has an unknown key {name!r}: {hint}")
    image, invert, feather = written.get("image"), written.get("invert", False), written.get("feather", 0.0)
    if not isinstance(image, str):
        raise UserError(f"{key}.image={image!r} is no picture: give a path or sample:NAME")
    if not isinstance(invert, bool):
        raise UserError(f"{key}.invert={invert!r}: must be true or false")
    is_number = isinstance(feather, int | float) and not isinstance(feather, bool)
    if not is_number or not (feather == 0 or _SHARPEST <= feather <= 100):
        raise UserError(
            f"{key}.feather={feather!r}: must be 0, or {_SHARPEST:g} to 100, in per cent of the mask's short side"
        )
    return image, invert, float(feather)


def _stretched(sampling: Sampling, length: int) -> Sampling:
    """Return an axis of the mask as an axis of the source, which has `length` px."""
    scale = length / sampling.length
    return Sampling(length, sampling.count, sampling.factor * scale, sampling.origin * scale)


def _read_shares(path: Path, how: SourceConfig) -> tuple[Pixels, Sampling, Sampling]:
    """Return the upright mask in a file, (rows, columns) 0..1, and the sampling of its rows and columns."""
    try:
        picture, facts = open_file(path)
        refuse_bomb(picture, path, how.max_megapixels)
        turn = TURNS[orientation(picture) - 1]
        stored = picture.height, picture.width
        factors = [-(-length // _MOST) for length in stored]
        shares = _shares(picture, facts.channels, path)
        if factors != [1, 1]:
            shares = shares.shrink(factors[1], factors[0], ceil=True)
        pixels: Pixels = np.empty((shares.height, shares.width), np.float32)
        top = 0
        for rows in decoded_rows(shares):
            pixels[top : top + len(rows)] = rows[..., 0]
            top += len(rows)
    except pyvips.Error as error:
        raise not_whole(path, error) from None
    _refuse_odd_values(pixels, path)
    pixels = pixels[:: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]
    # The last sample, which may cover less, comes first where the axis is flipped.
    samplings = [
        Sampling(length, count, factor, float(length - count * factor) if flipped else 0.0)
        for length, count, factor, flipped in zip(
            stored, pixels.shape, factors, (turn.flip_rows, turn.flip_columns), strict=True
        )
    ]
    if turn.transposed:
        pixels = pixels.T
        samplings.reverse()
    return np.clip(pixels, 0.0, 1.0), samplings[0], samplings[1]


def _shares(picture: pyvips.Image, channels: Channels, path: Path) -> pyvips.Image:
    """Return a picture of any samples as one band of float32, 0 black to 1 white, not computed yet."""
    stored = picture.extract_band(0, n=channels.colours) if channels.colours < picture.bands else picture
    if stored.interpretation in ("cmyk", "lab", "labs"):
        stored = stored.colourspace("srgb")
    if stored.coding != "none" or stored.format not in _WHITE:
        raise UserError(f"image {str(path)!r} holds samples of type {stored.format}: save it as grey of 8 or 16 bits")
    if stored.bands not in (1, 3):
        raise UserError(f"image {str(path)!r} has {picture.bands} channels: save it as grey, RGB or RGBA")
    grey = stored.cast("float") / _WHITE[stored.format]
    if grey.bands == 3:
        grey = grey.recomb(pyvips.Image.new_from_array([list(_LUMA)]))
    if channels.alpha is not None:
        grey = grey * (picture[channels.alpha].cast("float") / _WHITE[picture.format])
    return grey.cast("float")


def _refuse_odd_values(pixels: Pixels, path: Path) -> None:
    """Raise `UserError` for float and signed samples outside 0..1."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"image {str(path)!r} holds values that are not finite: save it as grey of 8 or 16 bits")
    if low < -_SLACK or high > 1 + _SLACK:
        raise UserError(
            f"image {str(path)!r} holds values from {low:.4g} to {high:.4g} of white: scale them to 0..1, or save it as "
            "grey of 8 or 16 bits"
        )


def _feathered(mask: Mask, share: float) -> Mask:
    """Return the mask blurred by a Gaussian whose sigma is `share` of the short side, on as few samples as that needs."""
    # Imported here because the import is slow and few masks are blurred.
    from scipy.ndimage import gaussian_filter

    sigma = share * min(mask.size)
    down, across = (
        min(sampling.count, math.ceil(_TO_SIGMA * sampling.length / sigma)) for sampling in (mask.rows, mask.columns)
    )
    samplings = Sampling(mask.size[0], down, mask.size[0] / down), Sampling(mask.size[1], across, mask.size[1] / across)
    ends: list[Literal["wrap", "reflect"]] = ["wrap" if mode == "wrap" else "reflect" for mode in mask.modes]
    samples = mask._resampled((down, across), whole(down, across))
    blurred = gaussian_filter(samples, [sigma / sampling.factor for sampling in samplings], mode=ends)
    pixels = np.clip(blurred, 0.0, 1.0, dtype=np.float32)[..., None]
    return replace(mask, pixels=pixels, rows=samplings[0], columns=samplings[1])
