"""Model of 1 to 512 accelerators on 1 to 100 gigapixels: work, bytes, seconds and price.

    python -m tests.reports.scale [node=aws_p5] [precision=bfloat16] [objective=mixed5] [gigapixels=1,10,100]
        [workers=1,8,64,512]

A model on paper: nothing is rendered. Windows and bytes come from the code by which renders deal tiles. Sizes are made up
(3 : 2, no source): a source of 100 gigapixels is more than `source.max_megapixels` lets in unless it is raised. The canvas
is its own picture (`output.format=zarr`). Each farm gets tiles cut for it (`tiles.parallel`). Seconds rest on the node's
figures; a block that is larger than the machine's memory would wait for its disk besides.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from render.config.compose import load_config, node_types
from render.config.schema import Config, NodeConfig
from render.job.progress import duration_text
from render.job.projection_tables import assumptions, bytes_table, dollar_text, times_table
from render.job.resolve import plan_request, schedule_of
from render.networks.inception_v3 import INCEPTION_V3
from render.planning.cost import StepCost, ideal_cost, step_cost
from render.planning.kernel_speed import kernel_speed
from render.planning.layout import lay_out
from render.planning.plan import Plan
from render.planning.planner import make_plan
from render.planning.price import Estimate, estimate, machine_of, network_bound_from
from render.terminal.document import Column, Document, Record, Table

#: Largest farm that is tried for the point at which the network bounds a step; beyond it tiles are smaller than a halo.
_MAX_WORKERS = 2048
_HEADINGS = ("gigapixels", "workers", "nodes", "steps", "checkpoints", "changes", "time", "on demand", "spot")
_COLUMNS = tuple(Column(heading, lambda record, key=heading: record[key], is_number=True) for heading in _HEADINGS)


def main() -> None:
    """Calculate and print."""
    words = {"node": "aws_p5", "precision": "bfloat16", "objective": "mixed5", "gigapixels": "1,10,100"}
    words |= {"workers": "1,8,64,512"}
    words |= dict(word.split("=", 1) for word in sys.argv[1:])
    nodes = {node.name: node for node in node_types()}
    if words["node"] not in nodes:
        raise SystemExit(f"there is no node {words['node']!r}: choose {', '.join(nodes)}")
    node = nodes[words["node"]]
    workers = [int(word) for word in words["workers"].split(",")]
    document = Document("scale")
    renders: list[Record] = []
    speed = kernel_speed(node, words["precision"])
    for gigapixels in map(float, words["gigapixels"].split(",")):
        # Cut for one worker: tiles for more have more halo, which is what they cost.
        alone = ideal_cost(_plan(gigapixels, 1, words["objective"], node).final, node, speed)
        costs: dict[int, StepCost] = {}
        for count in workers:
            plan = _plan(gigapixels, count, words["objective"], node)
            projection = estimate(plan, count, node, precision=words["precision"], every=300.0)
            costs[count] = projection.final
            renders.append(_record(gigapixels, count, projection))
        height, width = plan.final.shape
        title = f"{gigapixels:g} Gpx, {width} x {height} px, InceptionV3 {words['objective']}"
        document.table(bytes_table(costs, f"a step at {title}"))
        document.table(times_table(costs, alone, f"s a step at {title} on {node.name}, {words['precision']}"))
        document.fact(
            "network", "bounds from " + ", ".join(_points(gigapixels, words["objective"], words["precision"], node))
        )
    title = f"the whole render, octaves from 700 px on, 8 steps each, {words['precision']}"
    document.table(Table(title, _COLUMNS, renders))
    for kind, text in assumptions(node):
        document.fact(kind, text)
    document.print(as_json=False)


def _config(gigapixels: float, parallel: int, octaves: int) -> Config:
    config = load_config("gigapixel", ["image=noise", "output.format=zarr", "output.also=[]"])
    config.output.width = round((1.5 * gigapixels * 1e9) ** 0.5)
    config.output.height = round(config.output.width / 1.5)
    config.tiles.parallel, config.octaves.count = parallel, octaves
    return config


def _plan(gigapixels: float, workers: int, layer: str, node: NodeConfig, octaves: int = 20) -> Plan:
    config = _config(gigapixels, workers, octaves)
    schedule = schedule_of(config, INCEPTION_V3, [layer])
    request = plan_request(config, INCEPTION_V3, schedule, lay_out(config.output, None).shape)
    return make_plan(request, machine_of(node), workers=workers)


def _points(gigapixels: float, layer: str, precision: str, node: NodeConfig) -> list[str]:
    """Return from how many workers on the network bounds a step, at several network rates."""
    plans: dict[int, Plan] = {}
    texts = []
    for gbit in (10.0, 25.0, 100.0, node.network_gbit or 100.0):

        def cost(workers: int, gbit: float = gbit) -> StepCost:
            """Return the cost of a step."""
            if workers not in plans:
                plans[workers] = _plan(gigapixels, workers, layer, node, octaves=1)
            slower = replace(node, network_gbit=gbit)
            return step_cost(plans[workers].final, workers, slower, kernel_speed(node, precision))

        point = network_bound_from(cost, _MAX_WORKERS)
        texts.append(f"{f'{point} workers' if point else f'none of {_MAX_WORKERS}'} at {gbit:g} Gbit/s a node")
    return texts


def _record(gigapixels: float, workers: int, projection: Estimate) -> Record:
    """Return a row of the table of whole renders: texts by heading."""
    times = (projection.steps, projection.saves, projection.changes, projection.seconds)
    dollars = ["" if price is None else dollar_text(price) for price in (projection.price, projection.spot_price)]
    cells = [f"{gigapixels:g}", str(workers), str(projection.nodes), *map(duration_text, times), *dollars]
    return dict(zip(_HEADINGS, cells, strict=True))


if __name__ == "__main__":
    main()
