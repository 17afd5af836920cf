"""Layout of the source on the canvas: trim size, bleed, and the window of the source that the canvas shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from render.config.schema import OutputConfig, picture_bleed, picture_width
from render.errors import UserError
from render.geometry.geometry import AxisMode, Interval, Rect
from render.geometry.source_window import Beyond, SourceWindow, Span


@dataclass(frozen=True)
class Layout:
    """`shape` is the canvas with its bleed, (height, width) px; `trim` what is left of it when the print is cut.

    `window` is what the canvas shows of the source; None where the source has no size of its own and fills any canvas.
    """

    shape: tuple[int, int]
    trim: Rect
    window: SourceWindow | None


def lay_out(
    output: OutputConfig, source: tuple[int, int] | None, modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")
) -> Layout:
    """The layout of a source of (height, width) px for an output section.

    Where width and height are both given and are not the source's aspect, `output.fit` decides: `crop` shows the largest
    centred part that has the canvas' aspect, `contain` all of the source amid background, `stretch` distorts. The bleed
    shows what the source has beyond the trim size; where it has no more, it is mirrored (or background goes on). Raises
    `UserError` where the size is not known.
    """
    trim, bleed = trim_shape(output, source), picture_bleed(output)
    shape = trim[0] + 2 * bleed, trim[1] + 2 * bleed
    rect = Rect(Interval(bleed, bleed + trim[0]), Interval(bleed, bleed + trim[1]))
    if source is None:
        return Layout(shape, rect, None)
    rows, columns = (
        _with_bleed(span, length, bleed, mode)
        for span, length, mode in zip(_fitted(output, trim, source), trim, modes, strict=True)
    )
    return Layout(shape, rect, SourceWindow(rows, columns))


def trim_shape(output: OutputConfig, source: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) px of the picture without bleed: the height follows the source's aspect unless it is given."""
    width, height = picture_width(output), output.height
    if width is None:
        if source is None:
            raise UserError("noise has no size of its own: set output.width (and output.height)")
        width = source[1] if height is None else _following(height, source[1], source[0])
    if height is None:
        # Noise has no aspect: three to two, as photos have.
        height = _following(width, *source) if source else _following(width, 2, 3)
    return height, width


def _following(length: int, along: int, beside: int) -> int:
    """The length of one side of a picture whose other side is `length` px, by an aspect of `along` to `beside`."""
    return max(1, round(length * along / beside))


def _fitted(output: OutputConfig, trim: tuple[int, int], source: tuple[int, int]) -> tuple[Span, Span]:
    """What the trim size shows, without regard to what lies beyond."""
    full = Span.whole(source[0]), Span.whole(source[1])
    height, width = trim
    # A side that was rounded, here or by whoever gave both, is as close as pixels come: nothing is to be cut.
    as_it_is = height == _following(width, *source) or width == _following(height, source[1], source[0])
    if output.fit == "stretch" or as_it_is:
        return full
    scales = source[0] / height, source[1] / width
    scale = min(scales) if output.fit == "crop" else max(scales)
    fitted = [
        span if own == scale else replace(span, start=(span.length - scale * length) / 2, extent=scale * length)
        for span, own, length in zip(full, scales, trim, strict=True)
    ]
    return fitted[0], fitted[1]


def _with_bleed(span: Span, length: int, bleed: int, mode: AxisMode) -> Span:
    """A span of `length` canvas px with `bleed` more at both ends, and with what lies beyond the source."""
    beyond: Beyond = "background" if span.overhangs else "mirror"
    if bleed:
        each = span.extent / length
        span = replace(span, start=span.start - bleed * each, extent=(length + 2 * bleed) * each)
    if not span.overhangs:
        beyond = "wrap" if mode == "wrap" else "cut"
    return replace(span, beyond=beyond)
