"""Masks: grey pictures that weight dreaming by place.

White (1) dreams fully, black (0) leaves the source unchanged. A mask belongs to the source picture and is stretched to its
frame, so that crop, fit and bleed of the source apply to the mask as well. Its values are weights, not light: they are
used as stored in the file, whatever profile is embedded, and resampled linearly, so that no value exceeds black or white
and no ripple enters black areas.
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
from render.source.colour_space import LUMA_WEIGHTS
from render.source.decoding import decode_rows
from render.source.extension import extend_reader
from render.source.orientation import ORIENTATIONS, read_orientation
from render.source.photo import damaged_picture, refuse_oversized
from render.source.picture_info import open_file
from render.source.sampling import Sampling, upright_samplings
from render.source.source import find_picture
from render.source.srgb import WHITE
from render.source.tiff_picture import Channels

#: Version of the rule that makes a mask of a file; change it whenever the same file gives another mask.
_RULE_VERSION = 2
#: Most samples along a side that are held in memory.
_MAX_SIDE_SAMPLES = 4096
#: Most samples per sigma of a blur: finer detail is lost in the blur.
_MAX_SAMPLES_PER_SIGMA = 8
#: Smallest blur other than none, in per cent of the short side.
_MIN_FEATHER = 1e-3
#: Steps from black to white in `at`: few enough for 1 to stay exactly 1 despite the rounding of the resampling weights.
_WEIGHT_STEPS = 65536
#: Side of the grid on which the mean over the canvas is computed, samples.
_COVERAGE_GRID = 256
_KEYS = ("image", "invert", "feather")
#: Value of white, by libvips' type of sample.
_MASK_WHITE = {
    **WHITE,
    **{"uint": 2.0**32 - 1, "float": 1.0, "double": 1.0},
    **{"char": 2.0**7 - 1, "short": 2.0**15 - 1, "int": 2.0**31 - 1},
}
#: Largest distance of float samples outside 0..1 that is rounding.
_MAX_ROUNDING = 1e-3


@dataclass(frozen=True)
class Mask:
    """A mask held in memory.

    Attributes:
        name: Name of the mask in messages.
        sha256: Digest of all that decides the values of the mask.
        pixels: (rows, columns, 1) float32, 0..1, upright; shrunk if the file is large.
        rows: Sampling of the picture's rows.
        columns: Sampling of the picture's columns.
        outside_value: Value around the picture, 0..1, where the canvas shows more than the picture.
        modes: Continuation of the canvas' (rows, columns) beyond their ends.
        window: Part of the source that the canvas shows; None if the mask fills the canvas.
        coverage: Mean over the part that the canvas shows, 0..1.
    """

    name: str
    sha256: str
    pixels: Pixels = field(repr=False, compare=False)
    rows: Sampling
    columns: Sampling
    outside_value: float = 0.0
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
        """Return the mask on a canvas that shows `window` of the source.

        Args:
            window: Window in px of the source; with None the mask fills the canvas.

        Raises:
            UserError: the shown part is black everywhere.
        """
        mask = replace(self, window=window)
        values = mask._resampled((_COVERAGE_GRID, _COVERAGE_GRID), whole(_COVERAGE_GRID, _COVERAGE_GRID))
        if not values.any():
            part = "" if window is None else " in the part of the picture that the canvas shows"
            raise UserError(
                f"{self.name} matches nothing: it is black{part}; paint white where to dream, or set invert: true"
            )
        return replace(mask, coverage=float(values.mean(dtype=np.float64)))

    def at(self, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
        """Return a rectangle of the mask, resampled to an octave.

        Black and white are exactly 0 and 1, and the parts of a rectangle are bit-identical to the whole.

        Args:
            shape: (rows, columns) px of the octave.
            rect: Rectangle of the octave.

        Returns:
            (rect.rows.size, rect.columns.size) float32, 0..1.
        """
        if not rect.area:
            return np.zeros(rect.shape, np.float32)
        weights = self._resampled(shape, rect)
        return np.rint(weights * np.float32(_WEIGHT_STEPS), out=weights) / np.float32(_WEIGHT_STEPS)

    def _resampled(self, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
        """Return a rectangle as `at` does, before it is rounded."""
        window = self.window or SourceWindow.whole(self.size, self.modes)
        rows, columns = _stretch(self.rows, window.rows.length), _stretch(self.columns, window.columns.length)
        sample_window = SourceWindow(rows.to_samples(window.rows), columns.to_samples(window.columns))
        read = extend_reader(self._read, rows, columns, sample_window, [self.outside_value])
        return np.clip(resample_window(read, sample_window, shape, rect, TENT)[..., 0], 0.0, 1.0)

    def _read(self, rect: Rect) -> Pixels:
        """Return stored samples, (rows, columns, 1)."""
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


def open_mask(
    value: str | Mapping[str, Any],
    source_config: SourceConfig,
    key: str,
    modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect"),
) -> Mask:
    """Open the mask that a value of the config describes.

    Colours become luma, transparency becomes black; float samples are taken as 0..1. Large pictures are shrunk while they
    are read. Around the picture (`output.fit=contain`) the mask is black, or white if it is inverted.

    Args:
        value: A path or `sample:NAME`, or a mapping of `image`, `invert` and `feather`. `feather` is the sigma of a
            Gaussian blur in per cent of the mask's short side; it wraps around on an axis whose mode is `wrap`.
        source_config: Settings of the source; `max_megapixels` limits the picture.
        key: Config key, for messages.
        modes: Continuation of the canvas' (rows, columns) beyond their ends.

    Raises:
        UserError: the value or the file cannot be a mask, or the mask is black everywhere. The message names the key.
    """
    image, invert, feather = _checked_settings(value, key)
    try:
        path, digest = find_picture(image, "a path or sample:NAME")
        pixels, rows, columns = _read_weights(path, source_config)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    identity = json.dumps([_RULE_VERSION, digest, invert, feather, modes])
    sha256 = hashlib.sha256(identity.encode()).hexdigest()
    mask = Mask(f"{key} {image!r}", sha256, pixels[..., None], rows, columns, modes=modes)
    if feather:
        mask = _feather(mask, feather / 100)
    if invert:
        mask = replace(mask, pixels=1 - mask.pixels, outside_value=1.0)
    return mask.laid_out(None)


def _checked_settings(value: object, key: str) -> tuple[str, bool, float]:
    """Return image, invert and feather of a mask's config; raise `UserError` for a wrong one."""
    if isinstance(value, str):
        return value, False, 0.0
    if not isinstance(value, Mapping):
        raise UserError(
            f"{key}={value!r} is no mask: give a path, sample:NAME or {{image: ..., invert: ..., feather: ...}}"
        )
    for name in value:
        if name not in _KEYS:
            close_names = difflib.get_close_matches(str(name), _KEYS, n=1)
            hint = f"did you mean {close_names[0]!r}?" if close_names else f"a mask has {', '.join(_KEYS)}"
            raise UserError(f"{key} has an unknown key {name!r}: {hint}")
    image, invert, feather = value.get("image"), value.get("invert", False), value.get("feather", 0.0)
    if not isinstance(image, str):
        raise UserError(f"{key}.image={image!r} is no picture: give a path or sample:NAME")
    if not isinstance(invert, bool):
        raise UserError(f"{key}.invert={invert!r}: must be true or false")
    is_number = isinstance(feather, int | float) and not isinstance(feather, bool)
    if not is_number or not (feather == 0 or _MIN_FEATHER <= feather <= 100):
        raise UserError(
            f"{key}.feather={feather!r}: must be 0, or {_MIN_FEATHER:g} to 100, in per cent of the mask's short side"
        )
    return image, invert, float(feather)


def _stretch(sampling: Sampling, length: int) -> Sampling:
    """Stretch an axis of the mask to an axis of the source, which has `length` px."""
    scale = length / sampling.length
    return Sampling(length, sampling.count, sampling.factor * scale, sampling.origin * scale)


def _read_weights(path: Path, source_config: SourceConfig) -> tuple[Pixels, Sampling, Sampling]:
    """Decode a mask, upright.

    Returns:
        (rows, columns) float32, 0..1, and the sampling of its rows and columns.
    """
    try:
        picture, info = open_file(path)
        refuse_oversized(picture, path, source_config.max_megapixels)
        steps = ORIENTATIONS[read_orientation(picture) - 1]
        stored_shape = picture.height, picture.width
        factors = [-(-length // _MAX_SIDE_SAMPLES) for length in stored_shape]
        grey = _to_grey(picture, info.channels, path)
        if factors != [1, 1]:
            grey = grey.shrink(factors[1], factors[0], ceil=True)
        pixels: Pixels = np.empty((grey.height, grey.width), np.float32)
        top = 0
        for decoded in decode_rows(grey):
            pixels[top : top + len(decoded)] = decoded[..., 0]
            top += len(decoded)
    except pyvips.Error as error:
        raise damaged_picture(path, error) from None
    _refuse_odd_values(pixels, path)
    rows, columns = upright_samplings(stored_shape, pixels.shape, factors, steps)
    return np.clip(steps.apply(pixels), 0.0, 1.0), rows, columns


def _to_grey(picture: pyvips.Image, channels: Channels, path: Path) -> pyvips.Image:
    """Convert a picture to one band of float32, 0 (black) to 1 (white), not computed yet."""
    stored = picture.extract_band(0, n=channels.colours) if channels.colours < picture.bands else picture
    if stored.interpretation in ("cmyk", "lab", "labs"):
        stored = stored.colourspace("srgb")
    if stored.coding != "none" or stored.format not in _MASK_WHITE:
        raise UserError(f"image {str(path)!r} holds samples of type {stored.format}: save it as grey of 8 or 16 bits")
    if stored.bands not in (1, 3):
        raise UserError(f"image {str(path)!r} has {picture.bands} channels: save it as grey, RGB or RGBA")
    grey = stored.cast("float") / _MASK_WHITE[stored.format]
    if grey.bands == 3:
        grey = grey.recomb(pyvips.Image.new_from_array([list(LUMA_WEIGHTS)]))
    if channels.alpha is not None:
        grey = grey * (picture[channels.alpha].cast("float") / _MASK_WHITE[picture.format])
    return grey.cast("float")


def _refuse_odd_values(pixels: Pixels, path: Path) -> None:
    """Raise `UserError` for float and signed samples outside 0..1."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"image {str(path)!r} holds values that are not finite: save it as grey of 8 or 16 bits")
    if low < -_MAX_ROUNDING or high > 1 + _MAX_ROUNDING:
        raise UserError(
            f"image {str(path)!r} holds values from {low:.4g} to {high:.4g} of white: scale them to 0..1, or save it as "
            "grey of 8 or 16 bits"
        )


def _feather(mask: Mask, relative_sigma: float) -> Mask:
    """Blur a mask by a Gaussian whose sigma is `relative_sigma` of its short side.

    The result has as few samples as that needs.
    """
    # Imported here because the import is slow and few masks are blurred.
    from scipy.ndimage import gaussian_filter

    sigma = relative_sigma * min(mask.size)
    row_count, column_count = (
        min(sampling.count, math.ceil(_MAX_SAMPLES_PER_SIGMA * sampling.length / sigma))
        for sampling in (mask.rows, mask.columns)
    )
    height, width = mask.size
    samplings = Sampling(height, row_count, height / row_count), Sampling(width, column_count, width / column_count)
    ends: list[Literal["wrap", "reflect"]] = ["wrap" if mode == "wrap" else "reflect" for mode in mask.modes]
    samples = mask._resampled((row_count, column_count), whole(row_count, column_count))
    blurred = gaussian_filter(samples, [sigma / sampling.factor for sampling in samplings], mode=ends)
    pixels = np.clip(blurred, 0.0, 1.0, dtype=np.float32)[..., None]
    return replace(mask, pixels=pixels, rows=samplings[0], columns=samplings[1])
