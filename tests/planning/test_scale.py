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
from render.config.schema import PRECISIONS, Config, NodeConfig
from render.dreaming.device_resample import _TILE
from render.errors import UserError
from render.farm.conductor import bytes_exchanged, chunk_bytes_exchanged
from render.farm.worker.margins import needed_bytes
from render.geometry.blocks import (
    Block,
    Gathering,
    _border_between,
    chunk_extent,
    cut_by_tiles,
    deal_blocks,
    margin_pieces,
    node_order,
    pieces_of,
)
from render.geometry.geometry import CHUNK, Axis, Grid, round_up
from render.geometry.source_window import SourceWindow
from render.job.resolve import plan_request, schedule_of
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.nodes import Conv
from render.planning.change_cost import SENT_RATE, TILE_PX
from render.planning.cost import CALL_WITH_PIXELS, HOP, StepCost, Traffic, step_cost, sums_seconds
from render.planning.deal import Deal
from render.planning.kernel_speed import BANDWIDTH_REACHED, PRODUCTS_REACHED, KernelSpeed, kernel_speed
from render.planning.margin_cost import FRAME, ExchangeCost, ready_shares
from render.planning.plan import Machine, Octave, Plan
from render.planning.planner import make_plan
from render.planning.price import estimate, machine_of, network_bound_from

NODE = NodeConfig("made up", 8, 10.0, 50.0, 100.0, 80.0, 1000.0, 100.0, 50.0, 8.0, 4.0)
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


@given(grids(), st.integers(1, 24))
def test_parts_of_chunks_that_a_checkpoint_sends_are_counted(grid: Grid, workers: int) -> None:
    blocks = deal_blocks(grid, workers)
    extents = [chunk_extent(block.pixels, grid.canvas, CHUNK) for block in blocks]
    gatherings = [Gathering.of(pieces_of(extent, blocks), number) for number, extent in enumerate(extents) if extent.area]
    assert chunk_bytes_exchanged(blocks) == 12 * sum(gathering.foreign_pixels for gathering in gatherings)


@given(grids(), st.integers(1, 24), st.integers(1, 9))
def test_a_machines_network_carries_what_its_workers_do_not_have_from_each_other(
    grid: Grid, workers: int, per_node: int
) -> None:
    blocks = deal_blocks(grid, workers)
    traffic = Traffic.of(grid, workers, per_node)
    incoming, outgoing = [0] * traffic.nodes, [0] * traffic.nodes
    nodes = {index: position // per_node for position, index in enumerate(node_order(blocks, per_node))}
    for number, gathering in enumerate(margins(blocks)):
        for owner, pieces in gathering.others:
            if nodes[owner] != nodes[number]:
                size = 12 * sum(piece.source.area for piece in pieces)
                incoming[nodes[number]] += size
                outgoing[nodes[owner]] += size
    assert traffic.node_bytes == max(*incoming, *outgoing)


@given(grids(), st.integers(1, 24), st.integers(1, 9))
def test_bytes_of_a_checkpoint_are_the_chunks_that_each_worker_writes(grid: Grid, workers: int, per_node: int) -> None:
    written = [12 * chunk_extent(block.pixels, grid.canvas, CHUNK).area for block in deal_blocks(grid, workers)]
    traffic = Traffic.of(grid, workers, per_node)
    assert traffic.saved.tolist() == written
    assert sum(written) == 12 * grid.canvas.area
    by_node = [written[index] for index in node_order(deal_blocks(grid, workers), per_node)]
    assert traffic.node_saved == max(sum(by_node[at : at + per_node]) for at in range(0, len(written), per_node))


@given(grids(), st.integers(1, 24))
def test_tiles_wait_in_plans_for_those_that_they_wait_for_in_farms(grid: Grid, workers: int) -> None:
    blocks = deal_blocks(grid, workers)
    traffic = Traffic.of(grid, workers)
    number = int(traffic.received.argmax())
    margin = margins(blocks)[number]
    frames = traffic.frames(number)
    sizes = {owner: 12 * sum(piece.source.area for piece in pieces) for owner, pieces in margin.others}
    assert {owner: size for owner, size in enumerate(frames.ravel().tolist()) if size} == sizes
    if not sizes:
        return
    first = sum(size for owner, size in sizes.items() if owner < number) / sum(sizes.values())
    cut = Gathering.of(cut_by_tiles(blocks[number], margin_pieces(blocks[number], blocks)), number)
    needs = needed_bytes(blocks[number], dict(cut.others))
    for share, frames_needed in zip(ready_shares(traffic, number, frames), needs.values(), strict=True):
        assert (share > 0) == bool(frames_needed)
        assert share <= 1 + 1e-9
        if not any(owner > number for owner in frames_needed):
            assert share <= first + 1e-9


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=9),
    *(st.floats(0, 10) for _ in range(3)),
)
def test_an_exchange_adds_no_more_than_it_takes_and_no_less_than_what_nothing_can_hide(
    ready: list[float], copies: float, network: float, work: float
) -> None:
    margins = ExchangeCost(copies, network, tuple(ready))
    exposed = margins.exposed(work)
    assert max(0.0, margins.seconds - work) - 1e-9 <= exposed <= margins.seconds + 1e-9
    assert exposed >= min(ready) * margins.seconds - 1e-9


def test_more_tiles_without_margin_hide_more_of_an_exchange() -> None:
    waits = [ExchangeCost(3.0, 0.0, (*[0.0] * inner, *[1.0] * (9 - inner))).exposed(9.0) for inner in range(5)]
    assert waits == pytest.approx([3.0, 2.0, 1.0, 0.0, 0.0])


@given(grids(), st.integers(1, 40), st.integers(1, 9))
def test_machines_get_blocks_that_lie_close_and_every_block_once(grid: Grid, workers: int, per_node: int) -> None:
    blocks = deal_blocks(grid, workers)
    order = node_order(blocks, per_node)
    assert sorted(order) == list(range(len(blocks)))
    in_rows = Traffic.of(grid, workers, per_node)
    assert _border_between(blocks, len(in_rows.columns.owned), order, per_node) <= _border_between(
        blocks, len(in_rows.columns.owned), range(len(blocks)), per_node
    )


def test_machines_of_a_square_farm_have_rectangles() -> None:
    axis = Axis(8000, 1000, 352, 32, 16, "reflect")
    blocks = deal_blocks(Grid(axis, axis), 64)
    order = node_order(blocks, 8)
    for node in range(8):
        places = [divmod(index, 8) for index in order[8 * node : 8 * node + 8]]
        sides = sorted(len({place[way] for place in places}) for way in (0, 1))
        assert sides == [2, 4]


@pytest.mark.parametrize(
    "nodes", [["a"] * 4 + ["b"] * 4, ["a", "b"] * 4, ["a"] * 3 + ["b"] * 5, ["here"] * 8, [*"abcdefgh"]]
)
def test_workers_of_one_machine_get_neighbouring_blocks(nodes: list[str]) -> None:
    octave = planned(parallel=8).final
    deal = Deal.of(octave, nodes, (2, 4))
    dealt = deal_blocks(octave.grid, 8, (2, 4))
    assert sorted(map(dealt.index, deal.blocks)) == list(range(8))
    if nodes.count("a") == 4:
        columns = {node: {deal.blocks[w].tile_columns for w in range(8) if nodes[w] == node} for node in "ab"}
        assert [len(columns[node]) for node in "ab"] == [2, 2]
    if len(set(nodes)) == 1:
        assert deal.blocks == dealt


def test_only_what_travels_is_cut_by_tiles() -> None:
    """A block's own pixels in its margin are written at once: each piece more would be a program more on a device."""
    deal = Deal.of(planned(parallel=8).final, ["here"] * 8, (2, 4))
    for number, (block, margin) in enumerate(zip(deal.blocks, deal.margins, strict=True)):
        pieces = margin_pieces(block, deal.blocks)
        assert list(margin.own) == [piece for piece in pieces if piece.owner == number]
        assert sum(len(parts) for _, parts in margin.others) > len(pieces) - len(margin.own)


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
    return step_cost(octave, workers, node, KernelSpeed(tflops))


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
    assert slow.seconds - fast.seconds == pytest.approx(slow.exchange - fast.exchange)
    assert slow.margins.network == pytest.approx(10_000 * fast.margins.network)
    assert cost(plan.final, 64, tflops=0.01).bound == "kernels"


def test_blocks_that_live_on_devices_cost_the_host_nothing() -> None:
    """As workers would have it: where the stage can be stepped there, nobody forbids it, and there is room."""
    octave, node = planned().final, replace(NODE, device_gb=80.0)
    resident, in_memory = cost(octave, 8, node), cost(octave, 8, replace(node, device_gb=None))
    assert (resident.host, resident.update) == (0, 0)
    assert min(in_memory.host, in_memory.update) > 0
    assert (resident.kernels, resident.sums) == (in_memory.kernels, in_memory.sums)
    # Margins pass the bus to the device.
    assert resident.margins.copies > in_memory.margins.copies
    # A block's canvas with its margin, a whole core for each of its tiles, and that once more for an update.
    canvas = max(12 * block.padded.area for block in deal_blocks(octave.grid, 8))
    slots = max(12 * block.size * math.prod(octave.grid.core_shape) for block in deal_blocks(octave.grid, 8))
    # JAX has nine tenths of a device, and of those a block with its windows may have nine.
    assert cost(octave, 8, replace(node, device_gb=0.99 * (canvas + 2 * slots) / 0.81e9)).host == in_memory.host
    assert octave.residence is not None
    batch = octave.residence.windows_per_call("gpu", octave.grid.window_shape, octave.device_window_bytes, 10**12)
    # Beside the windows lies what neighbours borrow.
    lent = max(12 * (block.padded.area - block.pixels.area) for block in deal_blocks(octave.grid, 8))
    enough = canvas + slots + max(slots, batch * octave.device_window_bytes + lent)
    assert cost(octave, 8, replace(node, device_gb=1.01 * enough / 0.81e9)).host == 0
    # A filter needs room for the filtered gradient, too.
    filtered = Config()
    filtered.conditioning.laplacian = 4
    octave_filtered = planned(config=filtered).final
    assert cost(octave_filtered, 8, node).host == 0
    assert cost(octave_filtered, 8, replace(node, device_gb=1.01 * enough / 0.81e9)).host > 0
    forbidden = Config()
    forbidden.farm.worker.resident = False
    octave = planned(config=forbidden).final
    assert octave.residence is None
    assert cost(octave, 8, node).host == in_memory.host


def test_an_octave_change_on_a_device_takes_the_longer_the_more_of_the_source_is_sent() -> None:
    """Less than a tenth of the host's with a small source; a source that shrinks is the host's work; links have a rate."""
    octave, node = planned().final, replace(NODE, device_gb=80.0)

    def change(length: int, node: NodeConfig = node) -> float:
        window = SourceWindow.whole((length, 2 * length))
        return cost(replace(octave, source_window=window), 1, node).change

    on_host = replace(node, device_gb=None)
    pixels = 20_000 * 10_000
    assert change(1000, on_host) == change(9000, on_host) == pytest.approx(3 * 21e-9 * pixels, rel=0.02)
    assert change(1000) < change(4000) < change(9000) < change(11_000) < change(1000, on_host)
    assert change(1000) < 0.1 * change(1000, on_host)
    # A source as large as the canvas is sent twice.
    assert change(9000) - change(1000) > 2 * 0.9 * 12 * pixels / SENT_RATE
    # The driver calls every worker for each of its strips.
    assert cost(octave, 8, node).change > 8 * CALL_WITH_PIXELS
    # Noise is made on the host.
    assert cost(octave, 1, node).change > change(9000)
    assert math.prod(_TILE) == TILE_PX


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


def test_a_device_that_nobody_measured_is_reckoned_by_its_roofline() -> None:
    octave = planned().final
    peaks = replace(NODE, tflops_bfloat16=None, peak_tflops_bfloat16=989.0, device_gb_per_s=4800.0)
    speed = kernel_speed(peaks, "bfloat16")
    by_products = octave.window_flops / (PRODUCTS_REACHED * 989e12)
    by_bytes = octave.device_traffic_bytes / (BANDWIDTH_REACHED * 4800e9)
    assert speed.window_seconds(octave) == max(by_products, by_bytes)
    assert "roofline" in speed.source(octave)
    slow = kernel_speed(replace(peaks, device_gb_per_s=48.0), "bfloat16")
    assert slow.window_seconds(octave) == pytest.approx(100 * by_bytes)
    assert "bound by memory" in slow.source(octave)
    fast = kernel_speed(replace(peaks, device_gb_per_s=1e6), "bfloat16")
    assert fast.window_seconds(octave) == pytest.approx(by_products)
    assert "bound by products" in fast.source(octave)
    measured = kernel_speed(replace(peaks, tflops_bfloat16=300.0), "bfloat16")
    assert measured.window_seconds(octave) == pytest.approx(octave.window_flops / 300e12)
    assert "measured" in measured.source(octave)


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
    (tiles,) = re.findall(r"40000 x 25000 +([\d,]+) ", printed)
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
        speeds = ("tflops_", "peak_tflops_", "device_gb")
        assert all(value is not None for key, value in figures.items() if not key.startswith(speeds)), figures
        for precision in PRECISIONS:
            speed = kernel_speed(node, precision)
            assert speed.tflops or min(speed.peak_tflops, speed.bandwidth) > 0
        assert figures["spot_price_per_hour"] < figures["price_per_hour"]
        assert machine_of(node).host_bytes == int(figures["memory_gb"] * 1e9)


def test_sums_travel_a_tree_and_no_worker_is_more_efficient_than_one_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A level of the tree for every factor of sixteen; a canvas that only several devices hold makes nobody look better."""
    assert sums_seconds(1) == 0 < sums_seconds(2) < sums_seconds(17) < sums_seconds(18) < 1.1 * sums_seconds(19)
    # 512 workers are three levels.
    assert sums_seconds(512) == pytest.approx(2 * ((16 + 16 + 1) * FRAME + 3 * HOP), rel=0.01)
    words = (
        "plan",
        "conf=gigapixel",
        "image=noise",
        "objective.terms=[mixed4]",
        "node=aws_g6e",
        "model.precision=bfloat16",
    )
    assert main([*words, "farm.workers=8"]) == 0
    out = capsys.readouterr().out
    shares = [int(share) for share in re.findall(r"  (\d+) %  ", out)]
    assert len(shares) == 4
    assert max(shares) <= 100
    assert re.search(r"advice +\d+ workers? on \d+ nodes?: .*\$[\d.,]+; \d+ would take .*\$", out)
