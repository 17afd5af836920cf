"""Refusals of what cannot work: octaves too small for network or filter, and plans larger than the machine. Pure."""

from __future__ import annotations

from render.dreaming.stage import Conditioning
from render.errors import UserError
from render.geometry.geometry import MOST_TURNS, Grid
from render.planning.network_view import NetworkView
from render.planning.plan import TOTAL_SHARE, Machine, Plan, size_text


def refuse_small(grid: Grid, view: NetworkView) -> None:
    """Raise `UserError` if an octave's windows are too small for the network, or its canvas for wrapping."""
    for axis in (grid.rows, grid.columns):
        if axis.mode == "wrap" and axis.fill > MOST_TURNS * axis.length:
            raise UserError(
                f"an axis of {axis.length} px cannot wrap for {', '.join(view.layers)}, which sees {axis.fill} px either "
                "way: render larger, choose a shallower layer, or boundary.mode=reflect"
            )
    side, needed = min(grid.window_shape), view.network.smallest_input()
    if side >= needed:
        return
    rows, columns = grid.canvas.shape
    remedy = "render larger or choose a shallower layer"
    if min(grid.extended_shape) >= needed:
        remedy = "set a larger tiles.size or tiles.halo"
    raise UserError(
        f"an octave of {columns} x {rows} px has windows of {side} px and {view.network.name} needs {needed} px a "
        f"side for {', '.join(view.layers)}: {remedy}"
    )


def refuse_reach(shape: tuple[int, int], conditioning: Conditioning) -> None:
    """Raise `UserError` if the gradient's filter reads farther than an octave of (height, width) px is large."""
    reach = conditioning.reach
    if reach >= min(shape):
        key = "laplacian" if conditioning.laplacian else "smoothing"
        raise UserError(
            f"conditioning.{key}={getattr(conditioning, key):g} looks {reach} px far, and an octave is only "
            f"{shape[1]} x {shape[0]} px: set a smaller one, fewer octaves.count, or a list with one for each octave"
        )


def refuse_memory(plan: Plan, machine: Machine) -> None:
    """Raise `UserError` if a window does not fit into the device's memory, or a worker into the host's."""
    rows, columns = plan.final.grid.window_shape
    if plan.kernel_bytes > machine.device_bytes * TOTAL_SHARE:
        raise UserError(
            f"a window of {columns} x {rows} px (halo {plan.halo}) needs {size_text(plan.kernel_bytes)} and "
            f"the device has {size_text(machine.device_bytes)}: set a smaller tiles.size, tiles.halo=balanced, or a "
            "shallower layer"
        )
    if plan.worker_bytes > machine.limit:
        share = "" if machine.workers == 1 else f" for each of {machine.workers} workers"
        raise UserError(
            f"a worker needs {size_text(plan.worker_bytes)} of memory, {size_text(plan.kernel_bytes)} of it for a window "
            f"of {columns} x {rows} px, and there are {size_text(machine.limit)}{share}: set a smaller tiles.size, fewer "
            "farm.workers, or a larger farm.worker.memory_gb"
        )


def refuse_disk(plan: Plan, machine: Machine) -> None:
    """Raise `UserError` if the run directory or the scratch files do not fit on their disks."""
    height, width = plan.final.shape
    on_disk = plan.disk_bytes
    if plan.scratch_bytes and machine.scratch_free is None:
        on_disk += plan.scratch_bytes
    elif plan.scratch_bytes > (machine.scratch_free or 0):
        raise UserError(
            f"blocks of {width:,} x {height:,} px need {size_text(plan.scratch_bytes)} of scratch disk and "
            f"{size_text(machine.scratch_free or 0)} are free: set farm.scratch to a larger disk, or render it smaller"
        )
    if on_disk > machine.disk_free:
        scratch = f", {size_text(plan.scratch_bytes)} of it for scratch files," if on_disk > plan.disk_bytes else ""
        raise UserError(
            f"a canvas of {width:,} x {height:,} px needs up to {size_text(on_disk)} of disk{scratch} and "
            f"{size_text(machine.disk_free)} are free in {machine.disk}: set output.dir to a larger one, or render smaller"
        )
