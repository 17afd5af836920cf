"""Faults that any print shop would send a file back for. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from render.geometry.units import CM_PER_INCH
from render.preflight.facts import Report
from render.preflight.icc import CLASS_NAMES, PICTURE_CLASSES

#: Below this resolution, dpi, people see single pixels from a usual distance.
MIN_DPI = 100
#: Largest shares of pixels that lose tones at a channel's lowest and at its highest value.
MAX_LOST_LOW, MAX_LOST_HIGH = 0.1, 0.05
#: Smallest angle that an eye of 20/20 vision resolves: one minute of arc, in radians.
_RESOLVED_ANGLE = math.radians(1 / 60)
#: Most ink that any press takes, percent: no more than 350 % on sheets (ISO 12647-2:2013, 4.3.5).
MAX_INK = 350
#: Share of the pixels that may exceed a limit of ink: single pixels, such as a JPEG's ringing, stay within what dries.
MAX_SHARE_OVER_INK = 1e-4
#: Least quality of a JPEG for print. At 70, blocks of a photograph begin to be seen in skies.
MIN_JPEG_QUALITY = 70
#: Largest share of a picture in the bands of posterised gradients.
MAX_BANDED = 0.02
#: Error of a factor of enlargement, as a part.
FACTOR_ERROR = 0.02
#: Data colour spaces of profiles by the pixels' colour. Grey in a profile of RGB means red = green = blue, for all readers.
_PROFILE_SPACES = {"RGB": ("RGB",), "CMYK": ("CMYK",), "grey": ("GRAY", "RGB")}


class Fault(NamedTuple):
    """A fault: its kind, one word for programs, and a clause for people."""

    kind: str
    text: str


def general_faults(report: Report) -> Iterator[Fault]:
    """Yield the faults that a file has whatever was ordered; an order may state other limits."""
    if report.order is None or report.order.is_printed:
        yield from _resolution_faults(report)
    yield from _profile_faults(report)
    yield from _channel_faults(report)
    yield from _ink_faults(report)
    yield from _quality_faults(report)
    yield from _pixel_faults(report)


def viewing_cm(dpi: float) -> float:
    """Return the distance in cm from which an eye of 20/20 vision no longer sees single pixels."""
    return CM_PER_INCH / dpi / math.tan(_RESOLVED_ANGLE)


def percent(share: float) -> str:
    """Return a share as percent, with the digits that matter."""
    return "0 %" if share == 0 else "under 0.01 %" if share < 1e-4 else f"{100 * share:.{1 if share >= 0.01 else 2}f} %"


def _resolution_faults(report: Report) -> Iterator[Fault]:
    header, order = report.header, report.order
    is_sized = order is not None and order.sides_cm != (None, None)
    if report.dpi is None:
        if not is_sized:
            yield Fault("resolution", "no resolution stated: the shop cannot know its size")
    elif report.dpi < MIN_DPI and not (order is not None and order.dpi):
        text = f"{report.dpi:.0f} dpi is under {MIN_DPI}: for viewing from {viewing_cm(report.dpi):.0f} cm and more"
        yield Fault("resolution", text)
    if header.dpi is not None and abs(header.dpi[0] / header.dpi[1] - 1) > 0.01:
        yield Fault("resolution", "pixels are not square: horizontal and vertical dpi differ")


def _profile_faults(report: Report) -> Iterator[Fault]:
    icc = report.icc
    if report.space is not None:
        text = f"its colours are stated by {report.space}, which presses do not read: convert it to an ICC profile"
        yield Fault("profile", text)
    elif not report.has_profile:
        yield Fault("profile", "no ICC profile: colours are anybody's guess")
    elif icc is not None and icc.device_class not in PICTURE_CLASSES:
        kind = CLASS_NAMES.get(icc.device_class, icc.device_class)
        yield Fault("profile", f"its ICC profile is of class {kind}, which no finished picture has: convert it to another")
    elif icc is not None and icc.space not in _PROFILE_SPACES[report.colour]:
        yield Fault(
            "profile", f"{report.colour} pixels with an ICC profile for {icc.space}: assign the profile that they are in"
        )
    elif report.profile is None:
        yield Fault("profile", "the ICC profile cannot be read")


def _channel_faults(report: Report) -> Iterator[Fault]:
    if report.transparent and not (report.order is not None and report.order.transparency):
        yield Fault("transparency", "transparent: lay it over a background")
    if report.extra_channels:
        text = "a channel that is neither colour nor transparency: take it out, for it may be printed as an ink"
        yield Fault("channels", text)
    if report.turned:
        yield Fault("turned", "turned by EXIF alone, which a press may ignore")
    if report.header.pages > 1:
        yield Fault("pages", f"{report.header.pages} pages: only the first was looked at")


def _ink_faults(report: Report) -> Iterator[Fault]:
    """Yield excess ink: over the order's limit, or over that of any press."""
    limit = MAX_INK if report.order is None or report.order.tac is None else report.order.tac
    if report.ink is None or (share := report.ink.share_over(limit)) <= MAX_SHARE_OVER_INK:
        return
    separated = ", converted for the press" if report.ink.separated else ""
    text = f"up to {report.ink.maximum:.0f} % ink{separated}, and over {limit:g} % on {percent(share)} of the area"
    yield Fault("ink", f"{text}: convert it with a profile of that limit")


def _quality_faults(report: Report) -> Iterator[Fault]:
    quality, detail, tones = report.header.jpeg_quality, report.detail, report.tones
    least = MIN_JPEG_QUALITY if report.order is None or report.order.jpeg_quality is None else report.order.jpeg_quality
    is_coarse = detail is not None and detail.has_blocks
    if quality is not None and quality < least:
        is_coarse = True
        yield Fault("jpeg", f"a JPEG of quality {quality} or about, under {least:g}: export it again from the original")
    elif detail is not None and detail.has_blocks:
        text = f"blocks of a JPEG of low quality: the steps between them are {detail.blocking.ratio:.1f} times the others"
        yield Fault("jpeg", f"{text}: export it again from the original")
    if detail is not None and detail.is_enlarged and not _is_fine_enough(report):
        how = "by repeated pixels" if detail.repeated else "smoothly"
        dpi = effective_dpi(report)
        shows = "" if dpi is None else f": it shows no more than {dpi:.0f} dpi would"
        yield Fault("enlarged", f"enlarged {detail.factor:.1f} times, {how}{shows}")
    # Blocks of a JPEG and repeated pixels are bands, too, but have said so already.
    is_coarse |= detail is not None and detail.repeated
    if tones is not None and tones.banded > MAX_BANDED and not is_coarse:
        step = f"{tones.band_step:.0f} of 255 levels"
        yield Fault("posterised", f"posterised: gradients in steps of {step} on {percent(tones.banded)} of the area")
    if report.bits == 16 and tones is not None and tones.is_8_bit:
        yield Fault("bits", f"8 bits in a file of 16: {tones.levels} levels are used of 65,536")


def effective_dpi(report: Report) -> float | None:
    """Return the resolution of what the picture shows, on the ordered size or else on the stated one, dpi."""
    dpi = print_dpi(report)
    return None if dpi is None else dpi / max(1.0, report.detail.factor if report.detail else 1.0)


def print_dpi(report: Report) -> float | None:
    """Return the pixels an inch on the ordered size, or else on the size that the file states; None if neither is known.

    A print may lie on its side, so the longer side of the picture is the longer one of the order.
    """
    sides = (None, None) if report.order is None else report.order.sides_cm
    if sides[0] is not None and sides[1] is not None:
        pairs = zip(sorted(report.shape), sorted(side for side in sides if side is not None), strict=True)
        return min(pixels / side * CM_PER_INCH for pixels, side in pairs)
    for pixels, side in zip(reversed(report.shape), sides, strict=True):
        if side is not None:
            return pixels / side * CM_PER_INCH
    return report.dpi


def _is_fine_enough(report: Report) -> bool:
    """Return whether a picture that was enlarged still has the resolution that was ordered."""
    dpi = effective_dpi(report)
    least = None if report.order is None else report.order.dpi
    return bool(least) and dpi is not None and dpi >= (1 - FACTOR_ERROR) * (least or 0)


def _pixel_faults(report: Report) -> Iterator[Fault]:
    clipped = [
        f"{name} {100 * max(low, high):.1f} %"
        for name, low, high in lost_shares(report)
        if low > MAX_LOST_LOW or high > MAX_LOST_HIGH
    ]
    # In CMYK, 0 % or 100 % of an ink is part of many normal colours, so nothing is lost there.
    if clipped and report.colour != "CMYK":
        yield Fault("clipped", f"clipped: {', '.join(clipped)}")
    if report.seams is not None and report.seams.are_present:
        # Enlarged blocks of 16 px may fall on every border: at a factor of 1.25, ten of them are 200 px.
        exact = "it was rendered with exact halos, so these are the source's: blocks of an enlarged JPEG look so"
        remedy = exact if report.exact else "render with tiles.halo=exact"
        yield Fault("seams", f"seams along the borders of tiles: {remedy}")
    elif report.block_seams is not None and report.block_seams.are_present:
        yield Fault("seams", "seams along the borders of blocks")


def lost_shares(report: Report) -> Iterator[tuple[str, float, float]]:
    """Yield each channel's name and the shares of the pixels that lost tones at its lowest and highest value, 0..1."""
    for index, channel in enumerate(report.clipped):
        low, high = (channel.low, channel.high) if report.tones is None else report.tones.lost[index]
        yield channel.channel, low, high
