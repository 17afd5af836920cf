"""Layout of the source on the canvas: trim size, bleed, and the part of the source that is shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from render.config.schema import OutputConfig, picture_bleed, picture_height, picture_width
from render.errors import UserError
from render.geometry.geometry import AxisMode, Interval, Rect
from render.geometry.source_window import Beyond, SourceWindow, Span


@dataclass(frozen=True)
class SourceLayout:
    """Layout of the source on the canvas.

    `shape` is the canvas with its bleed, (height, width) px; `trim` is the part left after the print is cut. `window`
    is the part of the source that the canvas shows; None if the source has no size of its own and fills any canvas.
    """

    shape: tuple[int, int]
    trim: Rect
    window: SourceWindow | None


def lay_out(
    output: OutputConfig, source: tuple[int, int] | None, modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")
) -> SourceLayout:
    """Return the layout of a source of (height, width) px for an output section.

    If width and height are both set and do not have the source's aspect, `output.fit` decides: `crop` shows the largest
    centred part with the canvas' aspect, `contain` shows the whole source on a background, `stretch` distorts. The
    bleed shows the source beyond the trim size; where the source ends, the bleed mirrors it (or continues the
    background).

    Args:
        output: The output section.
        source: (height, width) px; None if the source has no size of its own.
        modes: The boundary modes of rows and columns.

    Raises:
        UserError: The size is not known.
    """
    trim, bleed = trim_shape(output, source), picture_bleed(output)
    shape = trim[0] + 2 * bleed, trim[1] + 2 * bleed
    rect = Rect(Interval(bleed, bleed + trim[0]), Interval(bleed, bleed + trim[1]))
    if source is None:
        return SourceLayout(shape, rect, None)
    rows, columns = (
        _with_bleed(span, length, bleed, mode)
        for span, length, mode in zip(_fitted(output, trim, source), trim, modes, strict=True)
    )
    return SourceLayout(shape, rect, SourceWindow(rows, columns))


def trim_shape(output: OutputConfig, source: tuple[int, int] | None) -> tuple[int, int]:
    """Return (height, width) px of the picture without bleed.

    A height that is not set follows the source's aspect, and so does a width if the height is set.
    """
    width, height = picture_width(output), picture_height(output)
    if width is None:
        if source is None:
            raise UserError("noise has no size of its own: set output.width (and output.height)")
        width = source[1] if height is None else _following(height, source[1], source[0])
    if height is None:
        # Noise has no aspect: use three to two, as photos have.
        height = _following(width, *source) if source else _following(width, 2, 3)
    return height, width


def _following(length: int, along: int, beside: int) -> int:
    """Return the side that belongs to a side of `length` px, for an aspect of `along` to `beside`."""
    return max(1, round(length * along / beside))


def _fitted(output: OutputConfig, trim: tuple[int, int], source: tuple[int, int]) -> tuple[Span, Span]:
    """Return the part of the source that the trim size shows, without what lies beyond the source."""
    full = Span.whole(source[0]), Span.whole(source[1])
    height, width = trim
    # If a side is the rounded length for the source's aspect, the aspect is as close as pixels allow: cut nothing.
    same_aspect = height == _following(width, *source) or width == _following(height, source[1], source[0])
    if output.fit == "stretch" or same_aspect:
        return full
    scales = source[0] / height, source[1] / width
    scale = min(scales) if output.fit == "crop" else max(scales)
    fitted = [
        span if axis_scale == scale else replace(span, start=(span.length - scale * length) / 2, extent=scale * length)
        for span, axis_scale, length in zip(full, scales, trim, strict=True)
    ]
    return fitted[0], fitted[1]


def _with_bleed(span: Span, length: int, bleed: int, mode: AxisMode) -> Span:
    """Return a span of `length` canvas px with `bleed` more at both ends, and with its `beyond` set."""
    beyond: Beyond = "background" if span.overhangs else "mirror"
    if bleed:
        source_px = span.extent / length
        span = replace(span, start=span.start - bleed * source_px, extent=(length + 2 * bleed) * source_px)
    if not span.overhangs:
        beyond = "wrap" if mode == "wrap" else "cut"
    return replace(span, beyond=beyond)
