"""Plan of a touch as text: its octaves, its work against that of the whole canvas, memory and disk."""

from __future__ import annotations

from render.geometry.geometry import PIXEL_BYTES
from render.job.report import print_octaves
from render.planning.plan import size_text
from render.terminal.console import plain_console
from render.touch.canvas_change import chunk_rect
from render.touch.draft import Touch, TouchDraft
from render.touch.octaves import step_pixels, work_ratio


def print_touch_plan(draft: TouchDraft) -> None:
    """Print what a touch would compute, in a table and lines of figures."""
    console, plan, touch = plain_console(), draft.plan, draft.touch
    print_octaves(plan, draft.resolved)
    _print_area(touch)
    pixels = sum(
        octave.steps * step_pixels(octave, touched) for octave, touched in zip(plan.octaves, draft.octaves, strict=True)
    )
    console.write_line(f"halo         {plan.halo} px around the area, stride {plan.stride} px")
    console.write_line(
        f"work         {pixels / 1e6:,.1f} Mpx through the network, x{work_ratio(plan, draft.octaves):.2f} of the area "
        "with its halo at every step"
    )
    console.write_line(f"memory       {size_text(plan.memory_bytes)} in all")
    _print_disk(touch, plan.disk_bytes)


def print_source_plan(touch: Touch) -> None:
    """Print what taking an area back to the source would change."""
    _print_area(touch)
    _print_disk(touch, 0)


def _print_area(touch: Touch) -> None:
    console, box, (height, width) = plain_console(), touch.area.box, touch.run.canvas.shape
    share = 100 * box.area / (height * width)
    console.write_line(
        f"area         {box.columns.size:,} x {box.rows.size:,} px at {box.columns.start:,},{box.rows.start:,} of "
        f"{width:,} x {height:,} px ({share:.2g} %), soft for {touch.area.feather:g} px inside"
    )


def _print_disk(touch: Touch, work_bytes: int) -> None:
    """Print the disk that a touch takes while it is dreamed, and afterwards."""
    chunks = chunk_rect(touch.area.box, touch.run.canvas.shape).area * PIXEL_BYTES
    going = f", up to {size_text(work_bytes)} more while it is dreamed" if work_bytes else ""
    plain_console().write_line(f"disk         {size_text(chunks)} for its undoing{going}")
