"""Faults of a file by what was ordered: colours, size, resolution, bleed, format. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from render.geometry.units import CM_PER_INCH
from render.preflight.facts import Report
from render.preflight.faults import Fault, percent, print_dpi
from render.preflight.order import PrintOrder

#: Part by which a resolution may be short, and a side differ: as pixels are whole, and dpi is often rounded.
_TOLERANCE = 0.005
#: Millimetres by which a side may differ besides.
_TOLERANCE_MM = 1.0
#: Share of the pixels that may be black of several inks where black ink alone is ordered: edges of letters.
_MAX_MIXED_BLACK = 1e-4


def order_faults(report: Report) -> Iterator[Fault]:
    """Yield what a file lacks of the order; nothing without an order."""
    order = report.order
    if order is None:
        return
    yield from _file_faults(report, order)
    yield from _colour_faults(report, order)
    if order.is_printed:
        yield from _size_faults(report, order)


def _file_faults(report: Report, order: PrintOrder) -> Iterator[Fault]:
    form = report.header.format.lower().removeprefix("big")
    if order.formats and form not in order.formats:
        yield Fault("format", f"a file of {report.header.format}, ordered is {_or(order.formats).upper()}")
    if order.interlaced is False and report.header.interlaced:
        kind = "a progressive JPEG" if form == "jpeg" else "interlaced"
        yield Fault("interlaced", f"{kind}: save it without, from top to bottom")
    if order.bits and str(report.bits) not in order.bits:
        yield Fault("bits", f"{report.bits} bits a channel, ordered is {_or(order.bits)}")


def _colour_faults(report: Report, order: PrintOrder) -> Iterator[Fault]:
    if order.colour and report.colour.lower() not in order.colour:
        yield Fault("colour", f"{report.colour} pixels, ordered is {_or(order.colour)}: convert it to the profile ordered")
    elif order.icc and report.profile is not None and not any(_is_in(text, report.profile) for text in order.icc):
        yield Fault("profile", f"its ICC profile is {report.profile!r}, ordered is {_or(order.icc)}: convert it")
    if order.black == "k" and report.ink is not None and report.ink.mixed_black > _MAX_MIXED_BLACK:
        share = percent(report.ink.mixed_black)
        yield Fault("black", f"black of several inks on {share} of the area, ordered is black ink alone")
    most = order.clipped_percent
    shares = [(channel.channel, max(channel.low, channel.high)) for channel in report.clipped]
    clipped = [f"{name} {percent(share)}" for name, share in shares if most is not None and 100 * share > most]
    if clipped and report.colour != "CMYK":
        yield Fault("clipped", f"at the end of a channel: {', '.join(clipped)}, ordered is at most {most:g} %")


def _size_faults(report: Report, order: PrintOrder) -> Iterator[Fault]:
    dpi = print_dpi(report)
    if order.dpi and dpi is not None and dpi < order.dpi * (1 - _TOLERANCE):
        needed = [f"{side:.0f} px {name}" for side, name in zip(order.sides_px, ("wide", "high"), strict=True) if side]
        remedy = f": it needs {' and '.join(needed)}" if needed else ""
        yield Fault("resolution", f"{dpi:.0f} dpi, ordered is {order.dpi:g}{remedy}")
    sides = order.sides_cm
    if sides == (None, None):
        yield from _bleed_faults(report, order)
        return
    if sides[0] is not None and sides[1] is not None:
        yield from _shape_faults(report, order, (sides[0], sides[1]))
    if report.size_cm is not None and not _has_size(report.size_cm, sides):
        text = f"at its stated dpi it is {_size_text(report.size_cm)}, ordered is {_ordered_text(order)}"
        hint = (
            ": it has no bleed" if order.bleed_mm and _has_size(report.size_cm, (order.width_cm, order.height_cm)) else ""
        )
        yield Fault("size", f"{text}{hint}")


def _shape_faults(report: Report, order: PrintOrder, sides: tuple[float, float]) -> Iterator[Fault]:
    """Yield a shape that cannot be scaled to the order without cutting or stretching."""
    short, long = sorted(report.shape)
    ordered_short, ordered_long = sorted(sides)
    # The picture is scaled to the long side; the other may then be wrong by as much as a size may.
    scaled = short / long * ordered_long
    if abs(scaled - ordered_short) > _tolerance_cm(ordered_short):
        rows, columns = report.shape
        text = f"{columns:,} x {rows:,} px have not the shape of {_ordered_text(order)}"
        yield Fault("size", f"{text}: scaled to it, one side is off by {10 * abs(scaled - ordered_short):.0f} mm")


def _bleed_faults(report: Report, order: PrintOrder) -> Iterator[Fault]:
    """Yield a lack of bleed, where only the bleed is ordered: then the file has to state it."""
    if not order.bleed_mm:
        return
    bleed, dpi = report.layout.bleed_px, report.dpi
    if bleed is None or dpi is None:
        text = f"bleed: the file does not state it, ordered are {order.bleed_mm:g} mm"
        yield Fault("bleed", f"{text}: say spec.width_cm= and spec.height_cm= as well")
    elif 10 * bleed / dpi * CM_PER_INCH < order.bleed_mm - 0.1:
        yield Fault("bleed", f"{10 * bleed / dpi * CM_PER_INCH:.1f} mm of bleed, ordered are {order.bleed_mm:g}")


def _has_size(size: tuple[float, float], ordered: tuple[float | None, float | None]) -> bool:
    """Return whether a size, cm, is the one ordered, upright or on its side."""
    return any(
        all(side is None or abs(stated - side) <= _tolerance_cm(side) for stated, side in zip(turned, ordered, strict=True))
        for turned in ((size, size[::-1]) if None not in ordered else (size,))
    )


def _tolerance_cm(side: float) -> float:
    return max(_TOLERANCE_MM / 10, _TOLERANCE * side)


def _size_text(size: tuple[float, float]) -> str:
    return f"{size[0]:.1f} x {size[1]:.1f} cm"


def _ordered_text(order: PrintOrder) -> str:
    sides = [(side, name) for side, name in zip(order.sides_cm, ("wide", "high"), strict=True) if side is not None]
    text = " x ".join(f"{side:.1f}" for side, _ in sides) + " cm"
    bleed = f" with {order.bleed_mm:g} mm of bleed" if order.bleed_mm else ""
    return f"{text if len(sides) == 2 else f'{text} {sides[0][1]}'}{bleed}"


def _is_in(text: str, name: str) -> bool:
    """Return whether a profile's name contains a text, whatever its case, blanks and signs."""
    plain, plain_name = ("".join(filter(str.isalnum, part)).lower() for part in (text, name))
    return plain in plain_name


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(words)
