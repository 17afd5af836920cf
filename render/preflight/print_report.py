"""Report on a picture that is to be printed: facts, warnings and a verdict. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from render.export.print_layout import PrintLayout
from render.geometry.units import CM_PER_INCH
from render.planning.plan import size_text
from render.preflight.header import Header
from render.preflight.seams import Seams

#: Below this resolution, dpi, people see single pixels from a usual distance.
_MIN_DPI = 100
#: Share of pixels at the end of a channel's range above which a warning is given.
_MAX_CLIPPED = 0.01
#: Smallest angle that an eye of 20/20 vision resolves: one minute of arc, in radians.
_RESOLVED_ANGLE = math.radians(1 / 60)


@dataclass(frozen=True)
class Clipping:
    """Shares, 0..1, of pixels at the lowest and at the highest value of a channel."""

    channel: str
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """Measured facts of a file.

    `shape` is (rows, columns) px; `block_seams` are measured along block borders only.
    """

    file: str
    file_bytes: int
    header: Header
    shape: tuple[int, int]
    bits: int
    colour: str
    transparent: bool
    turned: bool
    profile: str | None
    has_profile: bool
    layout: PrintLayout
    clipped: tuple[Clipping, ...]
    seams: Seams | None
    block_seams: Seams | None
    seams_note: str | None
    #: Whether the settings have exact halos; None if they do not say.
    exact: bool | None = None
    #: Means other than an ICC profile by which the file states its colours; it may have a profile as well.
    space: str | None = None
    #: Number of channels that are neither colour nor transparency.
    extra_channels: int = 0

    @property
    def size_cm(self) -> tuple[float, float] | None:
        """(width, height) on paper in cm, bleed included; None if no dpi is stated."""
        if self.header.dpi is None:
            return None
        return self.shape[1] / self.header.dpi[0] * CM_PER_INCH, self.shape[0] / self.header.dpi[1] * CM_PER_INCH

    @property
    def dpi(self) -> float | None:
        """The smaller of the two resolutions, dpi; None if none is stated."""
        return None if self.header.dpi is None else min(self.header.dpi)


def warnings(report: Report) -> list[str]:
    """Return the warnings, one short clause each; empty if all is well."""
    return [*_file_warnings(report), *_pixel_warnings(report)]


def _file_warnings(report: Report) -> Iterator[str]:
    header = report.header
    if report.dpi is None:
        yield "no resolution stated: the shop cannot know its size"
    elif report.dpi < _MIN_DPI:
        yield f"{report.dpi:.0f} dpi is under {_MIN_DPI}: for viewing from {viewing_cm(report.dpi):.0f} cm and more"
    if header.dpi is not None and abs(header.dpi[0] / header.dpi[1] - 1) > 0.01:
        yield "pixels are not square: horizontal and vertical dpi differ"
    if report.space is not None:
        yield f"its colours are stated by {report.space}, which presses do not read: convert it to an ICC profile"
    elif not report.has_profile:
        yield "no ICC profile: colours are anybody's guess"
    elif report.profile is None:
        yield "the ICC profile cannot be read"
    if report.transparent:
        yield "transparent: lay it over a background"
    if report.extra_channels:
        yield "a channel that is neither colour nor transparency: take it out, for it may be printed as an ink"
    if report.turned:
        yield "turned by EXIF alone, which a press may ignore"
    if header.pages > 1:
        yield f"{header.pages} pages: only the first was looked at"


def _pixel_warnings(report: Report) -> Iterator[str]:
    shares = [(channel.channel, max(channel.low, channel.high)) for channel in report.clipped]
    clipped = [f"{name} {100 * share:.1f} %" for name, share in shares if share > _MAX_CLIPPED]
    # In CMYK, 0 % or 100 % of an ink is part of many normal colours, so nothing is lost there.
    if clipped and report.colour != "CMYK":
        yield f"clipped: {', '.join(clipped)}"
    if report.seams is not None and report.seams.are_present:
        # Enlarged blocks of 16 px may fall on every border: at a factor of 1.25, ten of them are 200 px.
        exact = "it was rendered with exact halos, so these are the source's: blocks of an enlarged JPEG look so"
        yield f"seams along the borders of tiles: {exact if report.exact else 'render with tiles.halo=exact'}"
    elif report.block_seams is not None and report.block_seams.are_present:
        yield "seams along the borders of blocks"


def verdict(report: Report) -> str:
    """Return the verdict, one clause."""
    problems = warnings(report)
    if not problems:
        return "ready to print"
    return f"{len(problems)} thing{'s' if len(problems) > 1 else ''} to look at before it is printed"


def viewing_cm(dpi: float) -> float:
    """Return the distance in cm from which an eye of 20/20 vision no longer sees single pixels."""
    return CM_PER_INCH / dpi / math.tan(_RESOLVED_ANGLE)


def report_lines(report: Report) -> Iterator[str]:
    """Yield the lines of the report for people."""
    header, layout = report.header, report.layout
    rows, columns = report.shape
    yield f"file         {report.file}, {size_text(report.file_bytes)}"
    parts = [header.format]
    if header.compression not in header.format:
        parts.append(header.compression)
    if header.tile is not None:
        parts.append(f"tiles of {header.tile[1]} x {header.tile[0]} px")
    if header.levels > 1:
        parts.append(f"pyramid of {header.levels} levels")
    yield f"format       {', '.join(parts)}"
    yield f"pixels       {columns:,} x {rows:,}, {rows * columns / 1e6:,.1f} megapixels"
    if report.size_cm is None or report.dpi is None:
        yield "size         not known: the file states no dpi"
    else:
        yield f"size         {_size(report.size_cm)} at {report.dpi:.4g} dpi"
        yield f"viewing      sharp from {viewing_cm(report.dpi):.0f} cm on"
    yield f"bleed        {_bleed(report)}"
    profile = report.profile or ("cannot be read" if report.has_profile else "none")
    yield f"colour       {report.colour}{' with transparency' if report.transparent else ''}, {report.bits} bits a channel"
    yield f"ICC profile  {profile}"
    shares = (f"{channel.channel} {_share(channel.low)} / {_share(channel.high)}" for channel in report.clipped)
    yield f"clipped      {', '.join(shares)} (at 0 / at {2**report.bits - 1})"
    yield f"seams        {_seams(report.seams, report.seams_note, layout)}"
    if report.block_seams is not None:
        yield f"block seams  {_ratio(report.block_seams)}"
    for warning in warnings(report):
        yield f"warning      {warning}"
    yield f"verdict      {verdict(report)}"


def report_data(report: Report) -> dict[str, Any]:
    """Return the report as JSON types; sizes are separate numbers such as `width`."""
    header = report.header
    return {
        "file": report.file,
        "bytes": report.file_bytes,
        "format": header.format,
        "compression": header.compression,
        "tile": None if header.tile is None else {"width": header.tile[1], "height": header.tile[0]},
        "levels": header.levels,
        "pages": header.pages,
        "width": report.shape[1],
        "height": report.shape[0],
        "dpi": None if header.dpi is None else list(header.dpi),
        "width_cm": None if report.size_cm is None else round(report.size_cm[0], 3),
        "height_cm": None if report.size_cm is None else round(report.size_cm[1], 3),
        "bleed_px": report.layout.bleed_px,
        "colour": report.colour,
        "stated_colours": report.space,
        "transparent": report.transparent,
        "extra_channels": report.extra_channels,
        "bits": report.bits,
        "profile": report.profile,
        "clipped": {channel.channel: {"least": channel.low, "greatest": channel.high} for channel in report.clipped},
        "seams": _plain_seams(report.seams),
        "block_seams": _plain_seams(report.block_seams),
        "seams_note": report.seams_note,
        "warnings": warnings(report),
        "verdict": verdict(report),
    }


def _plain_seams(seams: Seams | None) -> dict[str, Any] | None:
    if seams is None:
        return None
    return {"ratio": seams.ratio, "error": seams.error, "found": seams.are_present, "certain": seams.is_certain}


def _bleed(report: Report) -> str:
    bleed, trim = report.layout.bleed_px, report.layout.trim
    if bleed is None:
        return "not stated"
    if bleed == 0:
        return "none"
    if trim is None:
        trim = report.shape[0] - 2 * bleed, report.shape[1] - 2 * bleed
    if report.header.dpi is None:
        return f"{bleed} px on every side, trimmed to {trim[1]:,} x {trim[0]:,} px"
    across, down = report.header.dpi
    size = _size((trim[1] / across * CM_PER_INCH, trim[0] / down * CM_PER_INCH))
    return f"{10 * CM_PER_INCH * bleed / across:.1f} mm ({bleed} px) on every side, trimmed to {size}"


def _seams(seams: Seams | None, note: str | None, layout: PrintLayout) -> str:
    if seams is None:
        return note or "the picture is too small to measure"
    rows, columns = layout.tiles or (0, 0)
    return f"{_ratio(seams)} along {sum(seams.borders)} borders of tiles of {columns} x {rows} px"


def _ratio(seams: Seams) -> str:
    finding = (
        "seams"
        if seams.are_present
        else "no seam"
        if seams.is_certain
        else "no seam found, but too little border to be sure"
    )
    return f"ratio {seams.ratio:.3f} +- {seams.error:.3f}: {finding}"


def _size(cm: tuple[float, float]) -> str:
    return f"{cm[0]:.1f} x {cm[1]:.1f} cm ({cm[0] / CM_PER_INCH:.1f} x {cm[1] / CM_PER_INCH:.1f} in)"


def _share(share: float) -> str:
    return "0 %" if share == 0 else "under 0.01 %" if share < 1e-4 else f"{100 * share:.2f} %"
