"""What a farm of any size would send, save and take: the closed forms against the geometry that the conductor deals by."""

from __future__ import annotations

import math
import re
import time
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.__main__ import main
from render.config.compose import node_types
from render.config.schema import Config, NodeConfig
from render.errors import UserError
from render.farm.conductor import bytes_exchanged
from render.geometry.blocks import Block, Gathering, chunk_extent, deal_blocks, margin_pieces
from render.geometry.geometry import CHUNK, Axis, Grid, round_up
from render.job.resolve import plan_request, schedule_of
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.nodes import Conv
from render.planning.cost import StepCost, Traffic, step_cost
from render.planning.plan import Machine, Octave, Plan
from render.planning.planner import make_plan
from render.planning.price import estimate, machine_of, network_bound_from

NODE = NodeConfig("made up", 8, 10.0, 100.0, 80.0, 1000.0, 100.0, 50.0, 8.0, 4.0)
ROOMY = Machine(1 << 50, 40_000_000_000, 1 << 60, shares_memory=False)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    stride = draw(st.sampled_from([2, 8, 16]))

    def axis() -> Axis:
        return Axis(
            length=draw(st.integers(1, 3000)),
            tile=draw(st.integers(40, 700)),
            halo=round_up(draw(st.integers(0, 400)), stride),
            fill=draw(st.integers(0, 120)),
            stride=stride,
            mode=draw(st.sampled_from(["reflect", "wrap"])),
        )

    return Grid(axis(), axis())


def margins(blocks: tuple[Block, ...]) -> list[Gathering]:
    return [Gathering.of(margin_pieces(block, blocks), number) for number, block in enumerate(blocks)]


@given(grids(), st.integers(1, 24))
def test_bytes_of_margins_are_those_that_the_conductor_sends(grid: Grid, workers: int) -> None:
    blocks = deal_blocks(grid, workers)
    traffic = Traffic.of(grid, workers)
    assert traffic.workers == len(blocks)
    assert traffic.bytes == bytes_exchanged(blocks)
    around = margins(blocks)
    assert traffic.received.tolist() == [12 * gathering.foreign_pixels for gathering in around]
    sent = [0] * len(blocks)
    for gathering in around:
        for owner, pieces in gathering.others:
            sent[owner] += 12 * sum(piece.source.area for piece in pieces)
    assert traffic.sent.tolist() == sent


@given(grids(), st.integers(1, 24), st.integers(1, 9))
def test_a_machines_network_carries_what_its_workers_do_not_have_from_each_other(
    grid: Grid, workers: int, per_node: int
) -> None:
    blocks = deal_blocks(grid, workers)
    traffic = Traffic.of(grid, workers, per_node)
    incoming, outgoing = [0] * traffic.nodes, [0] * traffic.nodes
    for number, gathering in enumerate(margins(blocks)):
        for owner, pieces in gathering.others:
            if owner // per_node != number // per_node:
                size = 12 * sum(piece.source.area for piece in pieces)
                incoming[number // per_node] += size
                outgoing[owner // per_node] += size
    assert traffic.node_bytes == max(*incoming, *outgoing)


@given(grids(), st.integers(1, 24), st.integers(1, 9))
def test_bytes_of_a_checkpoint_are_the_chunks_that_each_worker_writes(grid: Grid, workers: int, per_node: int) -> None:
    written = [12 * chunk_extent(block.pixels, grid.canvas, CHUNK).area for block in deal_blocks(grid, workers)]
    traffic = Traffic.of(grid, workers, per_node)
    assert traffic.saved.tolist() == written
    assert sum(written) == 12 * grid.canvas.area
    assert traffic.node_saved == max(sum(written[at : at + per_node]) for at in range(0, len(written), per_node))


@pytest.mark.parametrize(("shape", "mode"), [((9000, 14000), "reflect"), ((12000, 12000), "wrap")])
def test_middle_canvases_agree_as_well(shape: tuple[int, int], mode: str) -> None:
    """Of the networks' real halos, with more workers than the small ones above."""
    rows, columns = (Axis(length, 512, 352, 352 if mode == "wrap" else 32, 16, mode) for length in shape)  # type: ignore[arg-type]
    grid = Grid(rows, columns)
    for workers in (48, 96):
        assert Traffic.of(grid, workers, 8).bytes == bytes_exchanged(deal_blocks(grid, workers))


def planned(
    terms: str = "mixed5", *, width: int = 20_000, height: int = 10_000, parallel: int = 64, config: Config | None = None
) -> Plan:
    config = replace(config or Config(), image="noise")
    config.octaves.count = 1
    config.tiles.parallel = parallel
    config.output.width, config.output.height = width, height
    schedule = schedule_of(config, INCEPTION_V3, [terms])
    return make_plan(plan_request(config, INCEPTION_V3, schedule, (height, width)), ROOMY, workers=parallel)


def cost(octave: Octave, workers: int, node: NodeConfig = NODE, tflops: float = 100.0) -> StepCost:
    return step_cost(octave, workers, node, tflops)


def test_arithmetic_is_the_architectures() -> None:
    """Both passes over every convolution's outputs: one for each square of its stride, few less at a window's edges."""
    plan = planned()
    octave = plan.final
    rows, columns = octave.grid.window_shape
    flops = octave.window_flops
    convolutions = [layer for layer in INCEPTION_V3.truncated(["mixed5"]).layers.values() if isinstance(layer.node, Conv)]
    by_stride = sum(
        4 * layer.channels * layer.in_channels * math.prod(layer.node.kernel) / layer.stride**2 for layer in convolutions
    )
    # All activations are computed, and followed back from around the core alone.
    assert 0.5 * by_stride < flops / (rows * columns) < 0.95 * by_stride
    assert flops == INCEPTION_V3.truncated(["mixed5"]).gradient_flops((rows, columns), octave.grid.core_shape)
    # 176 GFLOP for a megapixel, of a window of one.
    assert INCEPTION_V3.truncated(["mixed5"]).gradient_flops((1024, 1024), (1024, 1024)) / 1024**2 == pytest.approx(
        176e3, rel=0.005
    )
    assert octave.steps * octave.grid.tiles * flops == plan.flops
    assert cost(octave, 1).kernels == pytest.approx(octave.grid.tiles * flops / 100e12)


def test_a_slow_network_bounds_a_step_and_a_fast_one_does_not() -> None:
    plan = planned()
    fast = cost(plan.final, 64, replace(NODE, network_gbit=1000.0))
    assert not fast.network_bound
    slow = cost(plan.final, 64, replace(NODE, network_gbit=0.1))
    assert slow.network_bound and slow.bound == "network"
    assert slow.seconds - fast.seconds == pytest.approx(slow.network - fast.network)
    assert slow.network == pytest.approx(10_000 * fast.network)
    assert cost(plan.final, 64, tflops=0.01).bound == "kernels"


def test_blocks_that_live_on_devices_cost_the_host_nothing() -> None:
    """As workers would have it: where the stage can be stepped there, nobody forbids it, and there is room."""
    octave, node = planned().final, replace(NODE, device_gb=80.0)
    resident, in_memory = cost(octave, 8, node), cost(octave, 8, replace(node, device_gb=None))
    assert (resident.host, resident.update) == (0, 0)
    assert min(in_memory.host, in_memory.update) > 0
    assert (resident.kernels, resident.exchange, resident.driver) == (
        in_memory.kernels,
        in_memory.exchange,
        in_memory.driver,
    )
    # A block's canvas with its margin, a whole core for each of its tiles, and that once more for an update.
    canvas, slots = resident.traffic.canvas_bytes, resident.traffic.slots_bytes
    blocks = deal_blocks(octave.grid, 8)
    assert canvas == max(12 * block.padded.area for block in blocks)
    assert slots == max(12 * block.size * math.prod(octave.grid.core_shape) for block in blocks)
    # JAX has nine tenths of a device, and of those a block with its windows may have nine.
    assert cost(octave, 8, replace(node, device_gb=0.99 * (canvas + 2 * slots) / 0.81e9)).host == in_memory.host
    assert octave.residence is not None
    batch = octave.residence.windows_per_call("gpu", octave.grid.window_shape, octave.device_window_bytes, 10**12)
    enough = canvas + slots + max(slots, batch * octave.device_window_bytes)
    assert cost(octave, 8, replace(node, device_gb=1.01 * enough / 0.81e9)).host == 0
    forbidden, filtered = Config(), Config()
    forbidden.farm.worker.resident = False
    filtered.conditioning.laplacian = 4
    for config in (forbidden, filtered):
        octave = planned(config=config).final
        assert octave.residence is None
        assert cost(octave, 8, node).host == in_memory.host


def test_one_worker_sends_nothing() -> None:
    plan = planned()
    alone = cost(plan.final, 1)
    assert alone.exchange == 0 and alone.traffic.bytes == 0
    assert alone.save_bytes == 12 * 20_000 * 10_000 == alone.traffic.node_saved


def test_more_workers_than_tiles_do_no_more() -> None:
    plan = planned(parallel=1)
    tiles = plan.final.grid.tiles
    assert cost(plan.final, 10 * tiles).traffic.workers <= tiles


def test_a_hundred_gigapixels_on_512_workers_are_counted_at_once() -> None:
    """No array of theirs is as long as a side of the canvas."""
    axis = Axis(316_228, 2300, 352, 32, 16, "reflect")
    traffic = Traffic.of(Grid(axis, axis), 512, 8)
    assert traffic.workers <= 512
    assert max(traffic.rows.needs.size, traffic.columns.needs.size) <= 512**2
    assert 0 < traffic.node_bytes < traffic.bytes
    assert np.all(traffic.received > 0)


def test_a_price_is_nodes_times_hours() -> None:
    plan = planned()
    price = estimate(plan, 20, NODE, precision="bfloat16", every=300.0)
    assert price.nodes == 3
    octave = cost(plan.final, 20)
    assert price.steps == pytest.approx(plan.final.steps * octave.seconds)
    assert price.saves == pytest.approx(octave.save)
    assert price.price == pytest.approx(3 * 8.0 * price.seconds / 3600)
    assert price.spot_price == pytest.approx(price.price / 2)
    often = estimate(plan, 20, NODE, precision="bfloat16", every=0.0)
    assert often.saves == pytest.approx((1 + plan.final.steps) * octave.save)


def test_what_nobody_knows_is_asked_for() -> None:
    plan = planned()
    unknown = replace(NODE, tflops_bfloat16=None)
    with pytest.raises(UserError, match="tflops_bfloat16 is not known of made up: set it"):
        estimate(plan, 8, unknown, precision="bfloat16", every=300.0)


@pytest.mark.parametrize("threshold", [1, 2, 3, 63, 64, 65, 100])
def test_the_point_where_the_network_bounds_is_found(threshold: int) -> None:
    plan = planned()
    fast, slow = (
        cost(plan.final, 64, replace(NODE, network_gbit=1e6)),
        cost(plan.final, 64, replace(NODE, network_gbit=1e-3)),
    )
    assert network_bound_from(lambda workers: slow if workers >= threshold else fast, 100) == threshold
    assert network_bound_from(lambda _: fast, 100) is None


@pytest.mark.slow
def test_a_plan_for_512_workers_starts_none_and_prices_them(capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    words = ["conf=gigapixel", "farm.workers=512", "model.precision=bfloat16"]
    assert main(["plan", *words]) == 0
    # Seconds on a laptop: generous for a machine that runs other tests.
    assert time.monotonic() - begun < 60
    printed = capsys.readouterr().out
    (tiles,) = re.findall(r"40000 x 25000 │ +([\d,]+) │", printed)
    assert "40000 x 25000 px" in printed and f"idle         {512 - int(tiles)} of 512 workers" in printed
    assert all(node.name in printed for node in node_types())
    assert main(["plan", *words, "node=aws_p5", "tiles.parallel=512", "node.price_per_hour=null"]) == 0
    printed = capsys.readouterr().out
    assert "idle         2 of 512 workers" in printed and "gcp_a3" not in printed and "bound by" in printed
    assert "price_per_hour=98.32" not in printed


@pytest.mark.parametrize("word", ["farm.worker.num_gpus=4", "farm.worker.resources={TPU: 4}"])
def test_several_devices_a_worker_are_not_priced_as_one(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "image=noise", "farm.workers=64", "node=aws_p5", word]) == 2
    assert "reckons with one accelerator a worker" in capsys.readouterr().err


def test_one_worker_and_one_tile_are_said_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "image=noise", "output.width=300", "output.height=200", "node=cpu"]) == 0
    printed = capsys.readouterr().out
    assert "it has 1 tile," in printed and "the whole render, 1 worker," in printed


def test_nodes_that_ship_are_whole() -> None:
    for node in node_types():
        figures = {setting.name: getattr(node, setting.name) for setting in fields(node)}
        assert all(value is not None for key, value in figures.items() if key != "device_gb"), figures
        assert figures["spot_price_per_hour"] < figures["price_per_hour"]
        assert figures["tflops_float32"] is not None and machine_of(node).host_bytes == int(figures["memory_gb"] * 1e9)
