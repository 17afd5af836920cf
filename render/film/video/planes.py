"""Conversion of RGB pictures into video frames: BT.709, limited range, the same bits on every machine."""

from __future__ import annotations

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

#: Frame of a film: (rows, columns, 3) RGB, uint8 of 0..255 or uint16 of 0..65535.
Picture = np.ndarray

#: Options of FFmpeg's scaler by which its results are the same with and without vector instructions.
EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT
)

#: H.273's codes of BT.709 primaries, transfer and matrix, and of RGB as a matrix.
BT709 = (int(ColorPrimaries.BT709), int(ColorTrc.BT709), 1)
RGB_MATRIX = 0
LIMITED, FULL = int(ColorRange.MPEG), int(ColorRange.JPEG)

#: Shares of red and blue in luma, in units of 2**-`_SHIFT` (BT.709-6, 3.2), and divisors of colour differences.
_SHIFT = 24
_RED, _BLUE = 0.2126, 0.0722
_STRIP_ROWS = 64
#: White with 16 bits a channel.
_WHITE = 65535


def to_uint8(picture: Picture) -> np.ndarray:
    """Return a picture with 8 bits a channel, rounded to the nearest level."""
    if picture.dtype == np.uint8:
        return picture
    return ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_uint16(picture: Picture) -> np.ndarray:
    """Return a picture with 16 bits a channel: 255 becomes 65535."""
    if picture.dtype == np.uint16:
        return picture
    return picture.astype(np.uint16) * np.uint16(257)


def stretched(picture: np.ndarray, white: int) -> np.ndarray:
    """Return a picture whose white becomes 65535.

    Args:
        picture: (rows, columns, 3) uint16, black 0.
        white: Its white.
    """
    if white == _WHITE:
        return picture
    result = np.empty_like(picture)
    for top in range(0, len(picture), _STRIP_ROWS):
        strip = picture[top : top + _STRIP_ROWS].astype(np.uint32)
        result[top : top + _STRIP_ROWS] = np.minimum((strip * _WHITE + white // 2) // white, _WHITE)
    return result


def video_frame(picture: Picture, pixels: str) -> VideoFrame:
    """Return a picture as a frame in one of the pixel formats of `formats.CODECS`.

    Args:
        picture: (rows, columns, 3) RGB, uint8 or uint16.
        pixels: FFmpeg's name of the pixel format.
    """
    picture = np.ascontiguousarray(picture)
    if pixels in ("yuv420p10le", "yuv422p10le"):
        frame = _ten_bits(to_uint16(picture), pixels)
    elif pixels == "yuv420p":
        frame = VideoFrame.from_ndarray(to_uint8(picture), "rgb24").reformat(
            format=pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=LIMITED, interpolation=EXACT, threads=1
        )
    else:
        return _rgb_frame(picture, pixels)
    frame.color_primaries, frame.color_trc, frame.colorspace = BT709
    frame.color_range = LIMITED
    return frame


def _rgb_frame(picture: Picture, pixels: str) -> VideoFrame:
    """Return a frame of RGB: no pixel changes, except by rounding to the bits of `pixels`."""
    rows, columns = picture.shape[:2]
    if pixels in ("gbrp10le", "gbrp16le"):
        frame = VideoFrame(columns, rows, pixels)
        values = to_uint16(picture)
        if pixels == "gbrp10le":
            values = ((values.astype(np.uint32) * 1023 + 32767) // 65535).astype(np.uint16)
        for plane, channel in enumerate((1, 2, 0)):
            _fill(frame, plane, values[..., channel])
    else:
        four = np.full((rows, columns, 4), 255, np.uint8)
        four[..., :3] = to_uint8(picture)[..., ::-1]
        frame = VideoFrame(columns, rows, pixels)
        _fill(frame, 0, four.reshape(rows, columns * 4))
    frame.color_primaries, frame.color_trc, frame.colorspace = BT709[0], BT709[1], RGB_MATRIX
    frame.color_range = FULL
    return frame


def _ten_bits(picture: np.ndarray, pixels: str) -> VideoFrame:
    """Return a frame of 10-bit luma and colour differences, by integers.

    FFmpeg's scaler takes 16-bit white for 65280, so its 10-bit white is 3 levels off.
    """
    rows, columns = picture.shape[:2]
    vertical = 2 if pixels == "yuv420p10le" else 1
    frame = VideoFrame(columns, rows, pixels)
    luma = np.empty((rows, columns), np.uint16)
    blue, red = (np.empty((rows // vertical, columns // 2), np.uint16) for _ in range(2))
    for top in range(0, rows, _STRIP_ROWS):
        strip = picture[top : top + _STRIP_ROWS].astype(np.int64)
        luma[top : top + _STRIP_ROWS] = _weighted(strip, _LUMA, 64 << 8, 1)
        small = _halved(strip, vertical)
        rows_of = slice(top // vertical, (top + len(strip)) // vertical)
        blue[rows_of] = _weighted(small, _BLUE_DIFFERENCE, 512 << 8, 4 * vertical)
        red[rows_of] = _weighted(small, _RED_DIFFERENCE, 512 << 8, 4 * vertical)
    for plane, values in enumerate((luma, blue, red)):
        _fill(frame, plane, values)
    return frame


def _fixed(weights: tuple[float, float, float], levels: int) -> tuple[int, int, int]:
    """Return weights of R, G, B that map 65535 to `levels` 10-bit levels, in units of 2**-(`_SHIFT` + 8)."""
    scaled = [round(weight * levels / 65535 * 2 ** (_SHIFT + 8)) for weight in weights]
    scaled[1] += round(sum(weights) * levels / 65535 * 2 ** (_SHIFT + 8)) - sum(scaled)
    return scaled[0], scaled[1], scaled[2]


_GREEN = 1 - _RED - _BLUE
_LUMA = _fixed((_RED, _GREEN, _BLUE), 876)
_BLUE_DIFFERENCE = _fixed((-_RED / (2 - 2 * _BLUE), -_GREEN / (2 - 2 * _BLUE), 0.5), 896)
_RED_DIFFERENCE = _fixed((0.5, -_GREEN / (2 - 2 * _RED), -_BLUE / (2 - 2 * _RED)), 896)


def _weighted(values: np.ndarray, weights: tuple[int, int, int], offset: int, count: int) -> np.ndarray:
    """Return the weighted sums of R, G, B, which are sums of `count` pixels, as rounded 10-bit levels."""
    total = values[..., 0] * weights[0] + values[..., 1] * weights[1] + values[..., 2] * weights[2]
    unit = count << (_SHIFT + 8)
    return (total + (offset >> 8) * unit + unit // 2) // unit


def _halved(strip: np.ndarray, vertical: int) -> np.ndarray:
    """Return sums of 4 * `vertical` pixels for each colour difference, which lies on the left luma column.

    Columns are weighted 1, 2, 1 (H.273, chroma sample location type 0); rows are added in pairs for 4:2:0.
    """
    if vertical == 2:
        strip = strip[0::2] + strip[1::2]
    left = np.concatenate([strip[:, :1], strip[:, 1:-1:2]], axis=1)
    return left + 2 * strip[:, 0::2] + strip[:, 1::2]


def _fill(frame: VideoFrame, plane: int, values: np.ndarray) -> None:
    """Write the rows of a plane, whose lines FFmpeg may have padded."""
    target = frame.planes[plane]
    lines = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
    content = np.ascontiguousarray(values).view(np.uint8)
    lines[: len(content), : content.shape[1]] = content
    lines[: len(content), content.shape[1] :] = 0
