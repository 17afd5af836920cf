"""The `plan` command for a farm that this machine does not have.

Nothing is started or measured, and only the source is fetched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from render.config.compose import node_types
from render.config.schema import Config
from render.errors import UserError
from render.job import job as jobs
from render.job.plan_report import add_disk, add_octaves
from render.job.progress import duration_text
from render.job.projection_tables import (
    assumptions,
    bytes_table,
    dollar_text,
    price_record,
    price_tables,
    times_table,
)
from render.planning.cost import StepCost, Traffic, ideal_cost, step_cost
from render.planning.kernel_speed import KernelSpeed, kernel_speed
from render.planning.plan import Plan
from render.planning.price import Estimate, estimate, machine_of, network_bound_from
from render.source.source import Source, open_source
from render.system.machine import cores
from render.terminal.document import Document, Record

#: Farm sizes that are shown beside the requested one, in workers.
_SIZES = (1, 8, 64, 512)
#: Twice the workers are worth it if they take at most this share of the time, and machines still do this share as much.
_FASTER, _WORTH = 0.9, 0.75
#: Most workers that a config may ask for.
_MOST = 10_000


def is_projected(config: Config) -> bool:
    """Return whether a plan is for other machines: for a node type, or more workers than this machine has cores."""
    return config.node.known or (config.farm.address is None and (config.farm.workers or 1) > cores())


def projection_document(config: Config) -> Document:
    """Return the plan for `farm.workers` workers of `config.node`, or of every node type; raise `UserError`."""
    node, worker = config.node, config.farm.worker
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
    document = Document("farm-plan")
    document.values(workers=workers, node=node.name if node.known else None, precision=config.model.precision)
    add_octaves(document, draft.plan, draft.resolved)
    _add_steps(document, config, draft.plan, speed)
    farm = f"{workers} worker{'s' * (workers != 1)}"
    records = _price_records(draft, source, workers)
    prices, times = price_tables(records, f"the whole render, {farm}, {config.model.precision}")
    document.values(renders=records)
    if prices.records:
        document.table(prices)
        document.table(times)
    for record in records:
        if record["problem"]:
            document.fact(record["node"], record["problem"])
    if node.known:
        _add_advice(document, draft)
    add_disk(document, draft.plan, draft.resolved)
    facts = assumptions(node)
    for kind, text in facts:
        document.fact(kind, text)
    document.values(assumptions=dict(facts))
    return document


def _add_steps(document: Document, config: Config, plan: Plan, speed: KernelSpeed) -> None:
    """Add bytes of a step, and its seconds on a node whose speed is known."""
    node, workers, final = config.node, config.farm.workers or 1, plan.final
    # Bytes do not depend on the kernels' speed.
    costs = {size: step_cost(final, size, node, speed) for size in sorted({*_SIZES, workers})}
    document.table(bytes_table(costs, f"a step at {final.shape[1]} x {final.shape[0]} px"), key="step_traffic")
    if node.known:
        title = f"seconds of a step on {node.name}, {config.model.precision}"
        document.table(times_table(costs, ideal_cost(final, node, speed), title), key="step_times")
    tiles, busy = final.grid.tiles, Traffic.of(final.grid, workers, node.workers).workers
    document.values(idle_workers=workers - busy)
    if busy < workers:
        dealt = f"{tiles} tiles are dealt in {busy} block{'s' * (busy != 1)}" if tiles > 1 else "1 tile is all there is"
        document.fact(
            "idle", f"{workers - busy} of {workers} workers: {dealt}; tiles.parallel={workers} cuts more, with more halo"
        )
    if node.known:

        def cost(size: int) -> StepCost:
            """Return the cost of a step on `size` workers."""
            return step_cost(final, size, node, speed)

        bound_workers = network_bound_from(cost, min(_MOST, tiles))
        document.fact("network", _network(bound_workers, tiles), network_bound_workers=bound_workers)
        document.fact("kernels", speed.source(final), kernel_speed=speed.source(final))


def _network(point: int | None, tiles: int) -> str:
    if point is None:
        return (
            f"never what bounds a step of this grid: it has {tiles} tile{'s' * (tiles != 1)}, for as many workers at most"
        )
    return f"bounds a step from {point} workers on"


def _add_advice(document: Document, draft: jobs.Draft) -> None:
    """Add how many workers of the node to take: by powers of two, as long as more are worth their machines."""
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
    text = (
        f"{workers} worker{plural} on {chosen.nodes} node{'s' * (chosen.nodes != 1)}: {_bill(chosen)}; "
        f"{2 * workers} would take {_bill(twice)}"
    )
    advice: list[dict[str, Any]] = [
        {"workers": count, "nodes": cost.nodes, "seconds": cost.seconds, "dollars": cost.price}
        for count, cost in ((workers, chosen), (2 * workers, twice))
    ]
    document.fact("advice", text, advice=advice[0], next_farm=advice[1])


def _is_worth(more: Estimate, fewer: Estimate) -> bool:
    """Return whether more workers are clearly faster, and their machines are used almost as well."""
    return more.seconds < _FASTER * fewer.seconds and fewer.seconds * fewer.nodes >= _WORTH * more.seconds * more.nodes


def _bill(cost: Estimate) -> str:
    return duration_text(cost.seconds, tenths=True) + (f", {dollar_text(cost.price)}" if cost.price is not None else "")


def _price_records(draft: jobs.Draft, source: Source, workers: int) -> list[Record]:
    """Return the whole render on the given node, or on each node type, with tiles that its memory allows."""
    config = draft.resolved.config
    records: list[Record] = []
    for node in [config.node] if config.node.known else node_types():
        try:
            plan = draft.plan if node is config.node else jobs.draft(config, lambda *_: source, machine_of(node)).plan
            cost = estimate(plan, workers, node, precision=config.model.precision, every=config.checkpoint.every)
        except UserError as error:
            records.append(price_record(node, None, str(error).partition(":")[0]))
            continue
        records.append(price_record(node, cost))
    return records
