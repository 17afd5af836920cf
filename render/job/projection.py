"""The `plan` command for a farm that this machine does not have.

Nothing is started or measured, and only the source is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from rich.table import Table

from render.config.compose import node_types
from render.config.schema import Config, NodeConfig
from render.errors import UserError
from render.job import job as jobs
from render.job import report
from render.job.progress import duration_text
from render.planning.change_cost import PREPARE_TILE, RESAMPLE, SENT_RATE, START_TILE, THREADS
from render.planning.cost import (
    CALL_WITH_PIXELS,
    CUT,
    HOP,
    KEEP,
    REACHED,
    UPDATE,
    StepCost,
    Traffic,
    ideal_cost,
    step_cost,
)
from render.planning.kernel_speed import KernelSpeed, kernel_speed
from render.planning.margin_cost import FRAME, LANES, RECEIVE, SEND
from render.planning.plan import size_text
from render.planning.price import COMPILE, COMPILING_THREADS, Estimate, estimate, machine_of, network_bound_from
from render.source.source import Source, open_source
from render.system.machine import cores
from render.terminal.console import plain_console
from render.terminal.lines import print_lines

#: Farm sizes that are shown beside the requested one, in workers.
_SIZES = (1, 8, 64, 512)
#: Twice the workers are worth it if they take at most this share of the time, and machines still do this share as much.
_FASTER, _WORTH = 0.9, 0.75
#: Most workers that a config may ask for.
_MOST = 10_000


def is_projected(config: Config) -> bool:
    """Return whether a plan is for other machines: for a node type, or more workers than this machine has cores."""
    return config.node.known or (config.farm.address is None and (config.farm.workers or 1) > cores())


def print_projection(config: Config) -> None:
    """Print the plan for `farm.workers` workers of `config.node`, or of every node type; raise `UserError`."""
    node, console, worker = config.node, plain_console(), config.farm.worker
    if max(worker.num_gpus or 1, worker.resources.get("TPU", 1)) > 1:
        raise UserError(
            "a plan for other machines reckons with one accelerator a worker: leave out farm.worker.num_gpus and "
            "farm.worker.resources, and let farm.workers count accelerators"
        )
    workers = config.farm.workers or node.workers
    config = replace(config, farm=replace(config.farm, workers=workers))
    # First, so that a node of unknown speed is refused before anything is opened.
    speed = kernel_speed(node, config.model.precision) if node.known else KernelSpeed(1.0)
    # Opened once for all node types.
    source = open_source(config.image, config.seed, config.source)
    draft = jobs.draft(config, lambda *_: source, machine_of(node))
    report.print_octaves(draft.plan, draft.resolved)
    sizes = sorted({*_SIZES, workers})
    final = draft.plan.final
    # Bytes do not depend on the kernels' speed.
    costs = {size: step_cost(final, size, node, speed) for size in sizes}
    console.print(bytes_table(costs, f"a step at {final.shape[1]} x {final.shape[0]} px"))
    if node.known:
        alone = ideal_cost(final, node, speed)
        console.print(times_table(costs, alone, f"s a step on {node.name}, {config.model.precision}"))
    tiles, busy = final.grid.tiles, Traffic.of(final.grid, workers, node.workers).workers
    if busy < workers:
        console.write_line(
            f"idle         {workers - busy} of {workers} workers: {tiles} tiles are dealt in {busy} blocks; "
            f"tiles.parallel={workers} cuts more, with more halo"
        )
    if node.known:
        bound_workers = network_bound_from(lambda size: step_cost(final, size, node, speed), min(_MOST, tiles))
        console.write_line(f"network      {_network(bound_workers, tiles)}")
        console.write_line(f"kernels      {speed.source(final)}")
    console.print(_prices(draft, source, workers))
    if node.known:
        console.write_line(f"advice       {_advice(draft)}")
    console.write_line(f"disk         up to {size_text(draft.plan.disk_bytes)} in {draft.resolved.directory.place}")
    console.write_line(f"arithmetic   {draft.plan.flops / 1e12:,.1f} TFLOP in convolutions")
    print_lines(*assumptions(node))


def _network(point: int | None, tiles: int) -> str:
    if point is None:
        return (
            f"never what bounds a step of this grid: it has {tiles} tile{'s' * (tiles != 1)}, for as many workers at most"
        )
    return f"bounds a step from {point} workers on"


def _advice(draft: jobs.Draft) -> str:
    """Return how many workers of the node to take: by powers of two, as long as more are worth their machines."""
    config, plan = draft.resolved.config, draft.plan
    node = config.node

    def render_cost(workers: int) -> Estimate:
        return estimate(plan, workers, node, precision=config.model.precision, every=config.checkpoint.every)

    workers, chosen = 1, render_cost(1)
    twice = render_cost(2)
    while 2 * workers <= min(_MOST, plan.final.grid.tiles) and _is_worth(twice, chosen):
        workers, chosen = 2 * workers, twice
        twice = render_cost(2 * workers)
    plural = "s" * (workers != 1)
    return (
        f"{workers} worker{plural} on {chosen.nodes} node{'s' * (chosen.nodes != 1)}: {_bill(chosen)}; "
        f"{2 * workers} would take {_bill(twice)}"
    )


def _is_worth(more: Estimate, fewer: Estimate) -> bool:
    """Return whether more workers are clearly faster, and their machines are used almost as well."""
    return more.seconds < _FASTER * fewer.seconds and fewer.seconds * fewer.nodes >= _WORTH * more.seconds * more.nodes


def _bill(cost: Estimate) -> str:
    return duration_text(cost.seconds) + (f", {_dollars(cost.price)}" if cost.price is not None else "")


def bytes_table(costs: Mapping[int, StepCost], title: str) -> Table:
    """Return a table of a step's work and bytes by the number of workers; exact for any machine."""
    table = Table(title=title, title_justify="left")
    for heading in (
        "workers", "busy", "Mpx each", "window Mpx", "halo work", "margin, most", "margins, all", "a node's net",
        "checkpoint",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for workers, cost in costs.items():
        traffic = cost.traffic
        table.add_row(
            f"{workers:,}", f"{traffic.workers:,}", f"{traffic.largest[0] * traffic.largest[1] / 1e6:,.1f}",
            f"{cost.window_pixels / 1e6:,.1f}", f"x {cost.halo_work:.2f}", size_text(int(traffic.received.max())),
            size_text(traffic.bytes), size_text(traffic.node_bytes), size_text(cost.save_bytes),
        )  # fmt: skip
    return table


def times_table(costs: Mapping[int, StepCost], alone: StepCost, title: str) -> Table:
    """Return a table of a step's and a checkpoint's seconds by the number of workers, and of what bounds the step.

    Efficiency is one worker's time for the same tiles, `alone`, over that of all workers together.
    """
    table = Table(title=title, title_justify="left")
    headings = (
        "workers",
        "kernels",
        "host",
        "update",
        "exchange",
        "sums",
        "step",
        "efficiency",
        "checkpoint",
        "bound by",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for workers, cost in costs.items():
        seconds = (cost.kernels, cost.host, cost.update, cost.exchange, cost.sums, cost.seconds)
        table.add_row(
            f"{workers:,}", *map(_seconds, seconds), f"{100 * efficiency(cost, workers, alone):.0f} %",
            _seconds(cost.save), cost.bound,
        )  # fmt: skip
    return table


def efficiency(cost: StepCost, workers: int, alone: StepCost) -> float:
    """Return one worker's time over the summed time of all workers, idle ones included."""
    return alone.seconds / (workers * cost.seconds)


def assumptions(node: NodeConfig) -> list[str]:
    """Return the assumptions behind the seconds, one on each line."""
    lines = [
        "exact        windows, halos, bytes of margins and checkpoints, operations: counted as the conductor deals tiles",
        f"measured     {CUT * 1e9:.1f} ns to cut a window's pixel out, {KEEP * 1e9:.1f} to keep a gradient's, "
        f"{UPDATE * 1e9:.1f} to update one",
        f"             of a thread {SEND * 1e9:.1f} ns to send a margin's pixel, {RECEIVE * 1e9:.1f} to receive one, "
        f"{FRAME * 1e6:.0f} us for a frame",
        f"             {3 * RESAMPLE * 1e9:.0f} ns of a thread for a pixel between octaves, or on a device "
        f"{(PREPARE_TILE + START_TILE) * 1e3:.1f} ms for a tile",
        f"             {CALL_WITH_PIXELS * 1e3:.1f} ms of the driver for a call at an octave change; on a two-core machine",
        f"             {COMPILE:.0f} s to compile a kernel for an accelerator, {COMPILING_THREADS} at once, before octaves",
        f"assumed      {REACHED:.0%} of net and store, {HOP * 1e6:.0f} us on the way; a node's blocks side by side",
        f"             between octaves {THREADS} threads for each accelerator, in steps {2 * LANES} for margins; "
        f"{SENT_RATE / 1e9:.0f} GB/s to it and back",
        "not counted  starting machines, compiling for CPUs, reading a large source, pictures, filters, lost nodes",
    ]
    if node.known:
        node_values = [
            f"{field.name}={getattr(node, field.name):g}"
            for field in fields(node)
            if field.name != "name" and getattr(node, field.name) is not None
        ]
        lines.append(f"{node.name:<12} {' '.join(node_values)}")
    return lines


def _prices(draft: jobs.Draft, source: Source, workers: int) -> Table:
    """Return a table of the whole render on the given node, or on each node type, with tiles that its memory allows."""
    config = draft.resolved.config
    farm = f"{workers} worker{'s' * (workers != 1)}"
    table = Table(title=f"the whole render, {farm}, {config.model.precision}", title_justify="left")
    for heading in (
        "node",
        "nodes",
        "step",
        "steps",
        "checkpoints",
        "changes",
        "compiling",
        "time",
        "on demand",
        "spot",
    ):
        table.add_column(heading, justify="left" if heading == "node" else "right")
    for node in [config.node] if config.node.known else node_types():
        try:
            plan = draft.plan if node is config.node else jobs.draft(config, lambda *_: source, machine_of(node)).plan
            render_cost = estimate(
                plan, workers, node,
                precision=config.model.precision, every=config.checkpoint.every,
            )  # fmt: skip
        except UserError as error:
            table.add_row(node.name, str(error).partition(":")[0])
            continue
        table.add_row(
            node.name, f"{render_cost.nodes:,}", _seconds(render_cost.final.seconds), duration_text(render_cost.steps),
            duration_text(render_cost.saves), duration_text(render_cost.changes), duration_text(render_cost.compiling),
            duration_text(render_cost.seconds),
            _dollars(render_cost.price), _dollars(render_cost.spot_price),
        )  # fmt: skip
    return table


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 1 else f"{value:,.1f} s"


def _dollars(value: float | None) -> str:
    return "" if value is None else f"${value:,.2f}"
