"""Report on a picture that is to be printed: facts, warnings and a verdict. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from render.export.print_layout import PrintLayout
from render.export.profile import Profile
from render.geometry.units import CM_PER_INCH
from render.planning.plan import size_text
from render.preflight.detail import Detail
from render.preflight.facts import Clipping, Report
from render.preflight.faults import Fault, effective_dpi, general_faults, percent, viewing_cm
from render.preflight.order import KEYS, PrintOrder
from render.preflight.order_faults import order_faults
from render.preflight.seams import Seams

__all__ = ["Clipping", "Fault", "Report", "faults", "report_data", "report_lines", "verdict", "viewing_cm", "warnings"]


def faults(report: Report) -> list[Fault]:
    """Return the faults of a file, those by the order last; empty if all is well."""
    return [*general_faults(report), *order_faults(report)]


def warnings(report: Report) -> list[str]:
    """Return the texts of the faults, one short clause each."""
    return [fault.text for fault in faults(report)]


def verdict(report: Report) -> str:
    """Return the verdict, one clause."""
    problems = faults(report)
    if not problems:
        return "ready to print" if report.order is None or report.order.is_printed else "ready for screens"
    count = f"{len(problems)} thing{'s' if len(problems) > 1 else ''}"
    return f"not as ordered: {count} to change" if report.order else f"{count} to look at before it is printed"


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
    yield from _quality_lines(report)
    yield f"seams        {_seams(report.seams, report.seams_note, layout)}"
    if report.block_seams is not None:
        yield f"block seams  {_ratio(report.block_seams)}"
    if report.order is not None:
        yield f"order        {_order(report.order)}"
    for warning in warnings(report):
        yield f"warning      {warning}"
    yield f"verdict      {verdict(report)}"


def _quality_lines(report: Report) -> Iterator[str]:
    """Yield the lines on ink and detail, as far as they were measured."""
    if report.ink is not None:
        separated = ", converted for the press" if report.ink.separated else ""
        limit = None if report.order is None else report.order.tac
        over = "" if limit is None else f", over {limit:g} % on {percent(report.ink.share_over(limit))}"
        yield f"ink          up to {report.ink.maximum:.0f} %{over}{separated}"
    if report.header.jpeg_quality is not None:
        yield f"JPEG         of quality {report.header.jpeg_quality} or about"
    if report.detail is None:
        yield "detail       the picture is too small to measure"
    elif report.detail.is_enlarged:
        dpi = effective_dpi(report)
        yield f"detail       enlarged {report.detail.factor:.1f} times{'' if dpi is None else f', shows {dpi:.0f} dpi'}"
    else:
        yield "detail       not enlarged"


def _order(order: PrintOrder) -> str:
    """Return the limits of an order, in its keys."""
    limits = {key: getattr(order, key) for key in KEYS if getattr(order, key) not in (None, ())}
    words = [f"{key}={_limit(value)}" for key, value in limits.items()]
    return f"{order.spec or 'as said'}: {' '.join(words) or 'no limits'}"


def _limit(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else "CMYK" if isinstance(value, Profile) else str(value)


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
        "ink": _plain_ink(report),
        "jpeg_quality": header.jpeg_quality,
        "interlaced": header.interlaced,
        "detail": None if report.detail is None else _plain_detail(report, report.detail),
        "tones": _plain_tones(report),
        "seams": _plain_seams(report.seams),
        "block_seams": _plain_seams(report.block_seams),
        "seams_note": report.seams_note,
        "order": None if report.order is None else _order_data(report.order) | {"met": not faults(report)},
        "faults": [fault._asdict() for fault in faults(report)],
        "warnings": warnings(report),
        "verdict": verdict(report),
    }


def _order_data(order: PrintOrder) -> dict[str, Any]:
    limits = {key: getattr(order, key) for key in KEYS}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in limits.items()}
    return plain | {"spec": order.spec, "profile": None if order.profile is None else order.profile.sha256}


def _plain_ink(report: Report) -> dict[str, Any] | None:
    ink = report.ink
    if ink is None:
        return None
    limit = None if report.order is None else report.order.tac
    over = None if limit is None else ink.share_over(limit)
    return {"maximum": ink.maximum, "over_tac": over, "mixed_black": ink.mixed_black, "converted": ink.separated}


def _plain_detail(report: Report, detail: Detail) -> dict[str, Any]:
    factor = detail.factor if detail.is_enlarged else 1.0
    return {
        "enlarged": factor,
        "repeated": detail.repeated,
        "effective_dpi": effective_dpi(report),
        "blocking": detail.blocking.ratio,
    }


def _plain_tones(report: Report) -> dict[str, Any] | None:
    tones = report.tones
    return None if tones is None else {"levels": tones.levels, "banded": tones.banded, "band_step": tones.band_step}


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
    around = "around the whole print" if report.layout.panel is not None else "on every side"
    if trim is None:
        trim = report.shape[0] - 2 * bleed, report.shape[1] - 2 * bleed
    if report.header.dpi is None:
        return f"{bleed} px {around}, trimmed to {trim[1]:,} x {trim[0]:,} px"
    across, down = report.header.dpi
    size = _size((trim[1] / across * CM_PER_INCH, trim[0] / down * CM_PER_INCH))
    return f"{10 * CM_PER_INCH * bleed / across:.1f} mm ({bleed} px) {around}, trimmed to {size}"


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
