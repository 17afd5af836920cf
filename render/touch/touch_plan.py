"""Plan of a touch as a document: its octaves, its work against that of the whole canvas, memory and disk."""

from __future__ import annotations

from render.geometry.geometry import PIXEL_BYTES
from render.job.plan_report import add_octaves
from render.planning.plan import size_text
from render.terminal.document import Document
from render.touch.canvas_change import chunk_rect
from render.touch.draft import Touch, TouchDraft
from render.touch.octaves import step_pixels, work_ratio


def touch_plan(draft: TouchDraft) -> Document:
    """Return what a touch would compute, and need."""
    plan, document = draft.plan, Document("touch-plan")
    add_octaves(document, plan, draft.resolved)
    _add_area(document, draft.touch)
    pixels = sum(
        octave.steps * step_pixels(octave, touched) for octave, touched in zip(plan.octaves, draft.octaves, strict=True)
    )
    ratio = work_ratio(plan, draft.octaves)
    document.fact(
        "halo", f"{plan.halo} px around the area, stride {plan.stride} px", halo_px=plan.halo, stride_px=plan.stride
    )
    document.fact(
        "work", f"{pixels / 1e6:,.1f} Mpx through the network, x{ratio:.2f} of the area with its halo at every step",
        window_megapixels=pixels / 1e6, work_ratio=ratio,
    )  # fmt: skip
    document.fact("memory", f"{size_text(plan.memory_bytes)} in all", memory_bytes=plan.memory_bytes)
    _add_disk(document, draft.touch, plan.disk_bytes)
    return document


def source_plan(touch: Touch) -> Document:
    """Return what taking an area back to the source would change."""
    document = Document("source-plan")
    _add_area(document, touch)
    _add_disk(document, touch, 0)
    return document


def _add_area(document: Document, touch: Touch) -> None:
    """Add the area of a touch."""
    box, (height, width) = touch.area.box, touch.run.canvas.shape
    share = box.area / (height * width)
    document.fact(
        "area",
        f"{box.columns.size:,} x {box.rows.size:,} px at {box.columns.start:,},{box.rows.start:,} of "
        f"{width:,} x {height:,} px ({100 * share:.2g} %), soft for {touch.area.feather:g} px inside",
        area_width_px=box.columns.size, area_height_px=box.rows.size, area_left_px=box.columns.start,
        area_top_px=box.rows.start, width_px=width, height_px=height, share=share, feather_px=touch.area.feather,
    )  # fmt: skip


def _add_disk(document: Document, touch: Touch, work_bytes: int) -> None:
    """Add the disk that a touch takes while it is dreamed, and afterwards."""
    undo_bytes = chunk_rect(touch.area.box, touch.run.canvas.shape).area * PIXEL_BYTES
    going = f", up to {size_text(work_bytes)} more while it is dreamed" if work_bytes else ""
    document.fact("disk", f"{size_text(undo_bytes)} for its undoing{going}", undo_bytes=undo_bytes, work_bytes=work_bytes)
