"""Tables of a plan for other machines: bytes and seconds of a step by the number of workers, and the price of a render."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from render.config.schema import NodeConfig
from render.job.progress import duration_text
from render.planning.change_cost import PREPARE_TILE, RESAMPLE, SENT_RATE, START_TILE, THREADS
from render.planning.cost import CALL_WITH_PIXELS, CUT, HOP, KEEP, REACHED, UPDATE, StepCost
from render.planning.margin_cost import FRAME, LANES, RECEIVE, SEND
from render.planning.plan import size_text
from render.planning.price import COMPILE, COMPILING_THREADS, Estimate
from render.terminal.document import Column, Record, Table


def seconds_text(value: float) -> str:
    """Return seconds as text of two digits below one second."""
    return f"{value:.2g} s" if value < 1 else f"{value:,.1f} s"


def dollar_text(value: float) -> str:
    """Return an amount of dollars as text."""
    return f"${value:,.2f}"


def _short_duration(seconds: float) -> str:
    return duration_text(seconds, tenths=True)


def _price(dollars: float | None) -> str:
    """Return a price as text; empty if it is not known."""
    return "" if dollars is None else dollar_text(dollars)


def _time_column(name: str, text: Callable[[float], str]) -> Column:
    """Return a column of seconds, which are below the name in records."""
    return Column(name, lambda record: text(record[f"{name}_seconds"]), is_number=True)


_BYTE_COLUMNS = (
    Column("workers", lambda step: f"{step['workers']:,}", is_number=True),
    Column("busy", lambda step: f"{step['busy_workers']:,}", is_number=True),
    Column("Mpx each", lambda step: f"{step['largest_block_megapixels']:,.1f}", is_number=True),
    Column("window Mpx", lambda step: f"{step['window_megapixels']:,.1f}", is_number=True),
    Column("halo work", lambda step: f"x {step['halo_work']:.2f}", is_number=True),
    Column("margin, most", lambda step: size_text(step["largest_margin_bytes"]), is_number=True),
    Column("margins, all", lambda step: size_text(step["margin_bytes"]), is_number=True),
    Column("a node's net", lambda step: size_text(step["node_network_bytes"]), is_number=True),
    Column("checkpoint", lambda step: size_text(step["checkpoint_bytes"]), is_number=True),
)
_STEP_COLUMNS = (
    Column("workers", lambda step: f"{step['workers']:,}", is_number=True),
    *(_time_column(name, seconds_text) for name in ("kernels", "host", "update", "exchange", "sums", "step")),
    Column("efficiency", lambda step: f"{100 * step['efficiency']:.0f} %", is_number=True),
    Column("checkpoint", lambda step: seconds_text(step["checkpoint_seconds"]), is_number=True),
    Column("bound by", lambda step: step["bound_by"], is_number=True),
)
_PRICE_COLUMNS = (
    Column("node", lambda render: render["node"]),
    Column("nodes", lambda render: f"{render['nodes']:,}", is_number=True),
    Column("a step", lambda render: seconds_text(render["step_seconds"]), is_number=True),
    Column("time", lambda render: _short_duration(render["seconds"]), is_number=True),
    Column("on demand", lambda render: _price(render["dollars"]), is_number=True),
    Column("spot", lambda render: _price(render["spot_dollars"]), is_number=True),
)
_TIME_COLUMNS = (
    Column("node", lambda render: render["node"]),
    *(_time_column(name, _short_duration) for name in ("steps", "checkpoints", "changes", "compiling")),
)


def bytes_table(costs: Mapping[int, StepCost], title: str) -> Table:
    """Return a table of a step's work and bytes by the number of workers; exact for any machine."""
    return Table(title, _BYTE_COLUMNS, [_bytes_record(workers, cost) for workers, cost in costs.items()])


def times_table(costs: Mapping[int, StepCost], alone: StepCost, title: str) -> Table:
    """Return a table of a step's and a checkpoint's seconds by the number of workers, and of what bounds the step.

    Efficiency is one worker's time for the same tiles, `alone`, over that of all workers together.
    """
    records = [
        {
            "workers": workers, "kernels_seconds": cost.kernels, "host_seconds": cost.host, "update_seconds": cost.update,
            "exchange_seconds": cost.exchange, "sums_seconds": cost.sums, "step_seconds": cost.seconds,
            "efficiency": efficiency(cost, workers, alone), "checkpoint_seconds": cost.save, "bound_by": cost.bound,
        }
        for workers, cost in costs.items()
    ]  # fmt: skip
    return Table(title, _STEP_COLUMNS, records)


def price_tables(records: list[Record], title: str) -> tuple[Table, Table]:
    """Return tables of the price of a render on each node that can hold it, and of what its time goes to."""
    priced = [record for record in records if not record["problem"]]
    return Table(title, _PRICE_COLUMNS, priced), Table("what its time goes to", _TIME_COLUMNS, priced)


def price_record(node: NodeConfig, cost: Estimate | None, problem: str = "") -> dict[str, Any]:
    """Return the values of a render on a node; with None for `cost`, the problem why it cannot be rendered there."""
    return {
        "node": node.name, "problem": problem or None,
        "nodes": cost and cost.nodes,
        "step_seconds": cost and cost.final.seconds,
        "steps_seconds": cost and cost.steps,
        "checkpoints_seconds": cost and cost.saves,
        "changes_seconds": cost and cost.changes,
        "compiling_seconds": cost and cost.compiling,
        "seconds": cost and cost.seconds,
        "dollars": cost and cost.price,
        "spot_dollars": cost and cost.spot_price,
    }  # fmt: skip


def efficiency(cost: StepCost, workers: int, alone: StepCost) -> float:
    """Return one worker's time over the summed time of all workers, idle ones included."""
    return alone.seconds / (workers * cost.seconds)


def assumptions(node: NodeConfig) -> list[tuple[str, str]]:
    """Return the assumptions behind the seconds, each with its kind."""
    facts = [
        ("exact", "windows, halos, bytes of margins and checkpoints, operations: counted as the conductor deals tiles"),
        (
            "measured",
            f"{CUT * 1e9:.1f} ns to cut a window's pixel out, {KEEP * 1e9:.1f} to keep a gradient's, "
            f"{UPDATE * 1e9:.1f} to update one; of a thread {SEND * 1e9:.1f} ns to send a margin's pixel, "
            f"{RECEIVE * 1e9:.1f} to receive one, {FRAME * 1e6:.0f} us for a frame; "
            f"{3 * RESAMPLE * 1e9:.0f} ns of a thread for a pixel between octaves, or on a device "
            f"{(PREPARE_TILE + START_TILE) * 1e3:.1f} ms for a tile; "
            f"{CALL_WITH_PIXELS * 1e3:.1f} ms of the driver for a call at an octave change; on a two-core machine; "
            f"{COMPILE:.0f} s to compile a kernel for an accelerator, {COMPILING_THREADS} at once, before octaves",
        ),
        (
            "assumed",
            f"{REACHED:.0%} of net and store, {HOP * 1e6:.0f} us on the way; a node's blocks side by side; "
            f"between octaves {THREADS} threads for each accelerator, in steps {2 * LANES} for margins; "
            f"{SENT_RATE / 1e9:.0f} GB/s to it and back",
        ),
        ("not counted", "starting machines, compiling for CPUs, reading a large source, pictures, filters, lost nodes"),
    ]
    if node.known:
        node_values = [
            f"{field.name}={getattr(node, field.name):g}"
            for field in fields(node)
            if field.name != "name" and getattr(node, field.name) is not None
        ]
        facts.append((node.name, " ".join(node_values)))
    return facts


def _bytes_record(workers: int, cost: StepCost) -> dict[str, Any]:
    """Return the work and bytes of a step."""
    traffic = cost.traffic
    return {
        "workers": workers, "busy_workers": traffic.workers,
        "largest_block_megapixels": traffic.largest[0] * traffic.largest[1] / 1e6,
        "window_megapixels": cost.window_pixels / 1e6, "halo_work": float(cost.halo_work),
        "largest_margin_bytes": int(traffic.received.max()), "margin_bytes": traffic.bytes,
        "node_network_bytes": traffic.node_bytes, "checkpoint_bytes": cost.save_bytes,
    }  # fmt: skip
