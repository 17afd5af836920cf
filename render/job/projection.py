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
from render.planning.cost import (
    CALL,
    CALL_WITH_MARGINS,
    CUT,
    KEEP,
    LEND,
    REACHED,
    RESAMPLE,
    UPDATE,
    StepCost,
    Traffic,
    step_cost,
)
from render.planning.plan import size_text
from render.planning.price import estimate, kernel_tflops, machine_of, network_bound_from
from render.source.source import Source, open_source
from render.system.machine import cores
from render.terminal.console import plain_console
from render.terminal.lines import print_lines

#: Farm sizes that are shown beside the requested one, in workers.
_SIZES = (1, 8, 64, 512)
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
    tflops = kernel_tflops(node, config.model.precision) if node.known else 1.0
    # Opened once for all node types.
    source = open_source(config.image, config.seed, config.source)
    draft = jobs.draft(config, lambda *_: source, machine_of(node))
    report.print_octaves(draft.plan, draft.resolved)
    sizes = sorted({*_SIZES, workers})
    final = draft.plan.final
    # Bytes do not depend on the kernels' speed.
    costs = {size: step_cost(final, size, node, tflops) for size in sizes}
    console.print(bytes_table(costs, f"a step at {final.shape[1]} x {final.shape[0]} px"))
    if node.known:
        console.print(times_table(costs, f"s a step on {node.name}, {config.model.precision}"))
    tiles, busy = final.grid.tiles, Traffic.of(final.grid, workers, node.workers).workers
    if busy < workers:
        console.write_line(
            f"idle         {workers - busy} of {workers} workers: {tiles} tiles are dealt in {busy} blocks; "
            f"tiles.parallel={workers} cuts more, with more halo"
        )
    if node.known:
        bound_workers = network_bound_from(lambda size: step_cost(final, size, node, tflops), min(_MOST, tiles))
        console.write_line(f"network      {_network(bound_workers, tiles)}")
    console.print(_prices(draft, source, workers))
    console.write_line(f"disk         up to {size_text(draft.plan.disk_bytes)} in {draft.resolved.directory.place}")
    console.write_line(f"arithmetic   {draft.plan.flops / 1e12:,.1f} TFLOP in convolutions")
    print_lines(*assumptions(node))


def _network(point: int | None, tiles: int) -> str:
    if point is None:
        return (
            f"never what bounds a step of this grid: it has {tiles} tile{'s' * (tiles != 1)}, for as many workers at most"
        )
    return f"bounds a step from {point} workers on"


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


def times_table(costs: Mapping[int, StepCost], title: str) -> Table:
    """Return a table of a step's and a checkpoint's seconds by the number of workers, and of what bounds the step.

    Efficiency is one worker's time for the same tiles over that of all workers together.
    """
    table = Table(title=title, title_justify="left")
    headings = (
        "workers",
        "kernels",
        "host",
        "driver",
        "update",
        "exchange",
        "step",
        "efficiency",
        "checkpoint",
        "bound by",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    alone = next(iter(costs.values()))
    for workers, cost in costs.items():
        seconds = (cost.kernels, cost.host, cost.driver, cost.update, cost.exchange, cost.seconds)
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
        f"{UPDATE * 1e9:.1f} to update one, {LEND * 1e9:.1f} to lend one",
        f"             {RESAMPLE * 1e9:.0f} ns a pixel between octaves, {CALL_WITH_MARGINS * 1e3:.1f} ms of the driver for "
        f"a call with margins, {CALL * 1e3:.1f} for others; on a two-core machine",
        f"assumed      {REACHED:.0%} of net and store; what kernels reach; a node's workers numbered one after another",
        "not counted  starting machines, compiling, PCIe, reading a large source, writing pictures, filters, lost machines",
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
    for heading in ("node", "nodes", "step", "steps", "checkpoints", "octave changes", "time", "on demand", "spot"):
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
            duration_text(render_cost.saves), duration_text(render_cost.changes), duration_text(render_cost.seconds),
            _dollars(render_cost.price), _dollars(render_cost.spot_price),
        )  # fmt: skip
    return table


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 1 else f"{value:,.1f} s"


def _dollars(value: float | None) -> str:
    return "" if value is None else f"${value:,.2f}"
