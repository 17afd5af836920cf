"""The plan: octave sizes, halos, automatic tiles, and what it refuses before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from render.config.schema import Config
from render.config.validation import validate
from render.errors import UserError
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import Grid, KernelShape
from render.job.resolve import plan_request, schedule_of, with_octave_count
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.planning.layout import lay_out
from render.planning.plan import Machine, Plan
from render.planning.planner import make_plan

ROOMY = Machine(host_bytes=64 * 10**9, device_bytes=64 * 10**9, disk_free=10**12, held_bytes=10_000_000)
GB = 10**9


def job(**sections: object) -> Config:
    """A config with some keys changed: job(octaves=dict(count=3), output=dict(width=500))."""
    config = Config()
    for name, value in sections.items():
        changed = replace(getattr(config, name), **value) if isinstance(value, dict) else value
        setattr(config, name, changed)
    return validate(config)


def plan(
    config: Config, layers=("mixed4",), source=(872, 1000), machine: Machine = ROOMY, network=INCEPTION_V3, **more
) -> Plan:
    """The plan of a config for a source of (height, width) px."""
    shape = lay_out(config.output, source).shape
    config, schedule = with_octave_count(config, schedule_of(config, network, layers), shape, network)
    return make_plan(plan_request(config, network, schedule, shape), machine, **more)


def test_octaves_go_from_coarse_to_the_size_asked_for() -> None:
    planned = plan(job(octaves={"count": 5}, output={"width": 800}))
    assert [octave.shape for octave in planned.octaves] == [(182, 208), (254, 292), (356, 408), (499, 571), (698, 800)]
    assert [octave.index for octave in planned.octaves] == [0, 1, 2, 3, 4]
    assert planned.skipped_octaves == 0


@given(
    st.integers(300, 20_000),
    st.floats(0.3, 3),
    st.integers(1, 12),
    st.floats(1.05, 3),
    st.sampled_from(["mixed2", "mixed7"]),
)
def test_octaves_keep_their_ratio_and_never_get_useless(
    width: int, aspect: float, count: int, scale: float, layer: str
) -> None:
    huge = replace(ROOMY, host_bytes=10**13, device_bytes=10**13)
    height = max(300, round(width * aspect))
    octaves = {"count": count, "scale": scale, "steps": list(range(count))}
    config = job(octaves=octaves, output={"width": width, "height": height})
    planned = plan(config, (layer,), machine=huge)
    shapes = [octave.shape for octave in planned.octaves]
    assert shapes[-1] == (height, width)
    assert len(shapes) + planned.skipped_octaves == count
    assert [octave.steps for octave in planned.octaves] == list(range(count))[planned.skipped_octaves :]
    for coarse, fine in zip(shapes, shapes[1:], strict=False):
        assert min(coarse) >= planned.useful_side
        assert coarse[0] == pytest.approx(fine[0] / scale, abs=1.01)
        assert coarse[1] == pytest.approx(fine[1] / scale, abs=1.01)


@given(
    st.integers(64, 30_000),
    st.floats(0.3, 3),
    st.floats(1.05, 3),
    st.sampled_from(["mixed0", "mixed2", "mixed4", "mixed5", "mixed9"]),
)
@example(700, 0.75, 1.4, "mixed4")
def test_without_a_number_the_coarsest_octave_shows_one_whole_thing(
    width: int, aspect: float, scale: float, layer: str
) -> None:
    """Its short side is the nearest to half the receptive field, and to 150 to 220 px, that the scale allows."""
    height = max(64, round(width * aspect))
    config = job(octaves={"scale": scale}, output={"width": width, "height": height})
    resolved, schedule = with_octave_count(
        config, schedule_of(config, INCEPTION_V3, (layer,)), (height, width), INCEPTION_V3
    )
    assert len(schedule.stages) == resolved.octaves.count
    short = min(width, height) / scale ** (resolved.octaves.count - 1)
    wanted = {"mixed0": 150, "mixed2": 150, "mixed4": 175.5}.get(layer, 220)
    if min(width, height) > wanted:
        assert wanted / scale**0.501 < short < wanted * scale**0.501
    else:
        assert resolved.octaves.count == 1
    # Exactly so many, if they are given as a number.
    again = replace(config, octaves=resolved.octaves)
    assert with_octave_count(again, schedule, (height, width), INCEPTION_V3) == (again, schedule)


@pytest.mark.parametrize("scale", [1.0001, 1 + 1e-9, 1 + 2**-52])
def test_a_scale_so_near_to_one_that_octaves_had_no_end_is_refused(scale: float) -> None:
    with pytest.raises(UserError, match=r"octaves.count=auto would take [\d,]+ octaves .* set a larger octaves.scale"):
        plan(job(octaves={"scale": scale}))


def test_a_list_says_how_many_octaves_there_are() -> None:
    planned = plan(job(octaves={"steps": [3, 2]}, step_size=[1.0, 2.0]))
    assert [octave.steps for octave in planned.octaves] == [3, 2]
    with pytest.raises(UserError, match=r"step_size lists 2 octaves, and there are 3: give one entry for each"):
        plan(job(octaves={"steps": [3, 2, 1]}, step_size=[1.0, 2.0]))


def test_forms_are_as_large_against_a_picture_of_any_width() -> None:
    planned = [plan(job(output={"width": width})) for width in (700, 1400, 2800)]
    coarsest = [plan.octaves[0].shape[1] for plan in planned]
    assert max(coarsest) / min(coarsest) < 1.1
    assert [len(plan.octaves) for plan in planned] == [5, 7, 9]


@pytest.mark.parametrize(("halo", "pixels"), [("exact", 352), ("balanced", 176), (0, 0), (100, 112), (5000, 352)])
def test_halo_is_in_whole_strides_and_at_most_exact(halo: str | int, pixels: int) -> None:
    planned = plan(job(tiles={"halo": halo}))
    assert (planned.halo, planned.exact_halo, planned.stride) == (pixels, 352, 16)


@pytest.mark.parametrize(
    ("model", "layer", "exact"),
    [(GOOGLENET, "inception_3b", 96), (GOOGLENET, "inception_4c", 304), (GOOGLENET, "inception_4e", 432),
     (INCEPTION_V3, "mixed2", 128), (INCEPTION_V3, "mixed5", 544)],
)  # fmt: skip
def test_exact_halos_are_those_of_the_design(model, layer: str, exact: int) -> None:
    assert plan(job(), (layer,), network=model).halo == exact


def test_several_layers_take_the_widest_field_and_stride() -> None:
    planned = plan(job(), ("mixed0", "mixed4"))
    assert (planned.halo, planned.stride) == (352, 16)


def test_auto_fits_the_memory_with_as_little_halo_work_as_it_can() -> None:
    """Less memory, smaller windows, more work; what XLA says counts, not the first guess."""

    def cost(objective: int, window: tuple[int, int], core: tuple[int, int]) -> int:
        return 1700 * window[0] * window[1]

    config = job(output={"width": 9000})
    work = []
    for gigabytes in (32, 16, 8, 4, 3):
        machine = replace(ROOMY, device_bytes=gigabytes * 10**9, shares_memory=False)
        planned = plan(config, machine=machine, window_bytes=cost)
        largest = max(octave.grid.window_shape[0] * octave.grid.window_shape[1] for octave in planned.octaves)
        assert planned.kernel_bytes == 1700 * largest <= machine.device_bytes / 2
        work.append(planned.window_pixels)
    assert work == sorted(work)
    assert work[-1] > 1.2 * work[0]
    by_hand = [plan(job(output={"width": 9000}, tiles={"size": size}), machine=ROOMY) for size in (512, 1024, 2048)]
    assert work[0] <= min(other.window_pixels for other in by_hand)


def test_auto_takes_the_memory_that_the_first_guess_left_unused() -> None:
    """Where a window needs a fourth of what was guessed, it asks once more, for larger ones, and has less work."""
    windows: list[tuple[int, int]] = []

    def cost(objective: int, window: tuple[int, int], core: tuple[int, int]) -> int:
        windows.append(window)
        return 125 * window[0] * window[1]

    config = job(output={"width": 9000}, octaves={"count": 1})
    machine = replace(ROOMY, device_bytes=2 * GB, shares_memory=False)
    guessed, planned = plan(config, machine=machine), plan(config, machine=machine, window_bytes=cost)
    assert len(windows) == 2
    assert planned.window_pixels < 0.75 * guessed.window_pixels
    assert 0.8 * GB < planned.kernel_bytes <= GB


def test_auto_does_not_cut_what_fits_in_one_window() -> None:
    planned = plan(job(output={"width": 2700}, octaves={"count": 3}))
    assert [octave.grid.tiles for octave in planned.octaves] == [1, 1, 1]


@given(st.integers(50, 9000), st.integers(50, 9000))
def test_auto_tiles_are_even(height: int, width: int) -> None:
    """No slivers: the last tile is nearly as large as the others."""
    planned = plan(job(output={"width": width, "height": height}, octaves={"count": 1}), ("mixed0",))
    for axis in (planned.final.grid.rows, planned.final.grid.columns):
        assert axis.core(axis.tiles - 1).size >= axis.core_size - axis.tiles


@given(st.integers(64, 3000), st.integers(64, 3000))
def test_round_pixels_of_print_sizes(width_mm: int, dpi: int) -> None:
    config = job(output={"width_cm": width_mm / 10, "dpi": float(dpi)}, octaves={"count": 1})
    assume(width_mm * dpi / 25.4 < 30_000)
    assume(width_mm * dpi / 25.4 > 500)
    huge = replace(ROOMY, host_bytes=10**14, device_bytes=10**14)
    assert plan(config, machine=huge).final.shape[1] == pytest.approx(width_mm * dpi / 25.4, abs=0.51)


def test_height_follows_the_source_or_is_given() -> None:
    assert plan(job(output={"width": 500})).final.shape == (436, 500)
    assert plan(job(output={"height": 436})).final.shape == (436, 500)
    assert plan(job()).final.shape == (872, 1000)
    assert plan(job(output={"width": 500, "height": 500})).final.shape == (500, 500)
    assert plan(job(output={"width": 600}), source=None).final.shape == (400, 600)


@pytest.mark.parametrize(
    ("config", "machine", "words"),
    [
        (job(output={"width": 100_000}), replace(ROOMY, disk_free=400 * GB), ("disk", "scratch files", "render smaller")),
        (job(output={"width": 200_000}), replace(ROOMY, scratch_free=800 * GB), ("scratch disk", "farm.scratch")),
        (job(output={"width": 3000}), replace(ROOMY, disk_free=10**6), ("disk", "output.dir")),
        (job(output={"width": 3000}), replace(ROOMY, host_bytes=GB), ("memory", "tiles.size")),
        (job(output={"width": 3000}), replace(ROOMY, workers=40), ("each of 40 workers", "farm.workers")),
        (job(output={"width": 3000}), replace(ROOMY, held_bytes=60 * GB), ("memory", "a worker")),
        (job(output={"width": 3000}), replace(ROOMY, shared_bytes=60 * GB), ("memory", "a worker")),
        (
            job(output={"width": 3000}, tiles={"size": 1024}), replace(ROOMY, worker_bytes=GB),
            ("1.0 GB", "farm.worker.memory_gb", "tiles.size"),
        ),
        (job(output={"width": 70_000, "format": "jpeg"}), ROOMY, ("65,500", "output.format=png")),
        (job(output={"width": 17_000, "format": "webp"}), ROOMY, ("16,383", "output.format=png")),
        (job(output={"width": 41_000, "format": "tiff"}), ROOMY, ("tiff", "4 GiB", "output.format=bigtiff")),
        (
            job(output={"width": 30_000, "bits": 16, "also": ["a.tif"]}), ROOMY,
            ("tiff", "4 GiB", "output.format=bigtiff"),
        ),
        (job(output={"width": 70_000, "also": ["web/a.jpg"]}), ROOMY, ("jpeg", "65,500", "output.format=png")),
        (job(output={"width": 3000}, tiles={"size": 3000}), replace(ROOMY, device_bytes=10**9), ("tiles.size", "window")),
        (job(output={"width": 9, "height": 9}, boundary={"fill": 0}), ROOMY, ("an octave of 9 x 9 px", "mixed4")),
    ],
)  # fmt: skip
def test_refuses_what_cannot_work(config: Config, machine: Machine, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refusal:
        plan(config, machine=machine)
    for word in words:
        assert word in str(refusal.value)


def test_noise_needs_a_size() -> None:
    with pytest.raises(UserError, match=r"output\.width"):
        plan(job(), source=None)


def test_predicted_work_is_what_the_grid_does() -> None:
    planned = plan(job(output={"width": 2500}, tiles={"size": 256}, octaves={"count": 2, "steps": 3}))
    assert planned.window_pixels == sum(
        3 * octave.grid.tiles * octave.grid.window_shape[0] * octave.grid.window_shape[1] for octave in planned.octaves
    )
    assert planned.final.grid.tiles == 10 * 9


def test_scratch_files_on_another_disk_are_not_counted_here() -> None:
    with pytest.raises(UserError, match=r"of disk and .* are free in the disk") as refusal:
        plan(job(output={"width": 100_000}), machine=replace(ROOMY, disk_free=200 * GB, scratch_free=10**12))
    assert "scratch" not in str(refusal.value)


def cores_of(planned: Plan) -> list[tuple[int, int]]:
    return [octave.grid.core_shape for octave in planned.octaves]


def grids_of(planned: Plan) -> list[Grid]:
    return [octave.grid for octave in planned.octaves]


def block_bytes(planned: Plan, workers: int) -> list[int]:
    """What the workers hold at the final size: canvas with its margin and gradient, both three float32."""
    return [12 * (block.padded.area + block.pixels.area) for block in deal_blocks(planned.final.grid, workers)]


@given(
    gigabytes=st.floats(0.7, 40),
    width=st.integers(300, 12_000),
    workers=st.integers(1, 9),
    crowded=st.booleans(),
    shares=st.booleans(),
    shared=st.integers(0, GB),
)
def test_what_memory_cannot_hold_goes_to_scratch_files(
    gigabytes: float, width: int, workers: int, crowded: bool, shares: bool, shared: int
) -> None:
    """No worker ever takes more than its share; blocks stay in memory exactly while they fit beside the rest."""
    machine = replace(
        ROOMY,
        host_bytes=int(gigabytes * GB),
        shares_memory=shares,
        workers=workers if crowded else 1,
        shared_bytes=shared,
    )
    config = job(output={"width": width}, tiles={"size": 256})
    try:
        planned = plan(config, ("mixed0",), machine=machine, workers=workers)
    except UserError as refusal:
        # Not for the canvas: a window, a few strips and the program are too much already.
        assert "a worker needs" in str(refusal)
        assert machine.limit < 12 * 8 * 2_000_000 + 10**9
        return
    blocks = block_bytes(planned, workers)
    assert planned.worker_bytes <= machine.limit
    assert planned.memory_bytes <= 0.9 * machine.host_bytes
    assert planned.memory_bytes >= shared + (len(blocks) if crowded else 1) * planned.worker_bytes
    if planned.scratch_bytes:
        assert planned.scratch_bytes >= sum(blocks)
        # Octaves in between may need a little more than the last.
        assert planned.worker_bytes + 2 * max(blocks) > machine.limit
        assert planned.worker_bytes < plan(config, ("mixed0",), workers=workers).worker_bytes
    else:
        assert planned.worker_bytes >= max(blocks) + machine.held_bytes + (planned.kernel_bytes if shares else 0)
        more = replace(machine, host_bytes=2 * machine.host_bytes)
        assert plan(config, ("mixed0",), machine=more, workers=workers) == planned


def test_a_large_poster_is_dreamed_in_a_small_machine() -> None:
    """600 megapixels on 4 GB: every block on disk, one window at a time in memory."""
    small = replace(ROOMY, host_bytes=4 * GB, device_bytes=4 * GB, held_bytes=GB // 2)
    planned = plan(job(output={"width": 30_000, "height": 20_000}), machine=small)
    assert planned.scratch_bytes > 12 * 2 * 600 * 10**6
    assert planned.worker_bytes <= 3.6 * GB
    # More workers on machines of their own hold the same canvas in memory, and the margins that they exchange.
    many = plan(job(output={"width": 30_000, "height": 20_000}), machine=small, workers=50)
    assert many.scratch_bytes == 0
    assert max(block_bytes(many, 50)) < many.worker_bytes <= 3.6 * GB
    assert grids_of(many) == grids_of(planned)


@pytest.mark.parametrize("elsewhere", [None, 40 * GB])
def test_scratch_files_count_against_the_disk_they_lie_on(elsewhere: int | None) -> None:
    """At the run's disk or at another: as much as is free is enough, and a byte less is refused."""
    config = job(output={"width": 20_000, "height": 15_000})
    machine = replace(ROOMY, host_bytes=5 * GB, device_bytes=5 * GB, scratch_free=elsewhere)
    planned = plan(config, machine=machine)
    assert planned.scratch_bytes
    disk_bytes = planned.disk_bytes + (planned.scratch_bytes if elsewhere is None else 0)
    assert plan(config, machine=replace(machine, disk_free=disk_bytes)) == planned
    with pytest.raises(UserError, match=r"of disk.*output\.dir"):
        plan(config, machine=replace(machine, disk_free=disk_bytes - 1))
    if elsewhere:
        assert plan(config, machine=replace(machine, scratch_free=planned.scratch_bytes)) == planned
        with pytest.raises(UserError, match=r"scratch disk.*farm\.scratch"):
            plan(config, machine=replace(machine, scratch_free=planned.scratch_bytes - 1))


def test_the_disk_holds_two_checkpoints_and_two_pictures() -> None:
    """One canvas that counts, one being written; the picture and its copy; neither compressed."""
    planned = plan(job(output={"width": 5000, "height": 4000}))
    assert planned.disk_bytes >= 20_000_000 * (2 * 12 + 2 * 3)
    assert planned.disk_bytes <= 1.1 * 20_000_000 * (2 * 12 + 2 * 3)


@given(st.floats(0.9, 60), st.integers(500, 12_000), st.booleans())
def test_a_worker_stays_within_what_the_config_allows_it(allowed: float, width: int, shares: bool) -> None:
    """`farm.worker.memory_gb` bounds windows where kernels use the host's memory, and blocks everywhere."""
    machine = replace(ROOMY, worker_bytes=int(allowed * GB), shares_memory=shares)
    config = job(output={"width": width})
    try:
        planned = plan(config, machine=machine)
    except UserError as refusal:
        assert "farm.worker.memory_gb" in str(refusal)
        assert allowed < 2
        return
    assert planned.worker_bytes <= machine.limit <= allowed * GB
    if allowed >= 1.5:
        # Below, half of it is less than the smallest window that shows mixed4 anything.
        assert planned.kernel_bytes <= (allowed / 2 if shares else 32) * GB
    free = plan(config, machine=replace(ROOMY, shares_memory=shares))
    assert planned.window_pixels >= free.window_pixels
    if not shares:
        # What a device computes does not depend on the memory beside it.
        assert grids_of(planned) == grids_of(free)


@given(
    st.integers(300, 15_000),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 64),
    st.sampled_from(["auto", 300]),
    st.integers(0, GB),
)
def test_the_grid_does_not_depend_on_the_workers(
    width: int, parallel: int, workers: int, crowd: int, size: int | str, held: int
) -> None:
    """Nor on how many share a machine, or what they hold: one worker and sixty write the same bytes."""
    config = job(output={"width": width}, tiles={"parallel": parallel, "size": size})
    alone = replace(ROOMY, host_bytes=10**13)
    crowded = replace(alone, workers=crowd, held_bytes=held, shared_bytes=held)
    planned = plan(config, machine=crowded, workers=workers)
    assert planned.workers == workers
    assert grids_of(planned) == grids_of(plan(config, machine=alone))


@pytest.mark.parametrize("layer", ["mixed0", "mixed3", "mixed4"])
@pytest.mark.parametrize("parallel", [2, 3, 4, 6, 8, 12, 16])
def test_auto_cuts_for_as_many_workers_as_it_is_told(parallel: int, layer: str) -> None:
    """Every octave that is worth cutting has a tile for each, and the busiest worker of a step has less to do."""
    for_one, planned = (
        plan(job(octaves={"count": 5}, output={"width": 6000}, tiles={"parallel": count}), (layer,), machine=ROOMY)
        for count in (1, parallel)
    )
    for single, several in zip(grids_of(for_one), grids_of(planned), strict=True):
        before, after = busiest(single, parallel), busiest(several, parallel)
        assert after <= before
        assert several.tiles >= parallel or several.tiles == single.tiles
    assert planned.final.grid.tiles >= parallel
    assert busiest(planned.final.grid, parallel) <= 0.75 * for_one.final.step_window_pixels
    assert planned.window_pixels >= for_one.window_pixels


def busiest(grid: Grid, workers: int) -> int:
    """Window pixels that the worker with the most tiles works on in a step."""
    rows, columns = grid.window_shape
    return rows * columns * max(block.size for block in deal_blocks(grid, workers))


@example(width=2290, aspect=1.0, parallel=29)
@given(st.integers(500, 12_000), st.floats(0.3, 3), st.integers(1, 32))
def test_auto_for_many_does_no_worse_than_tiles_by_hand(width: int, aspect: float, parallel: int) -> None:
    """By much: it looks at grids of equal tiles only. Counted as if tiles could be dealt one by one."""
    output = {"width": width, "height": max(500, round(width * aspect))}
    machine = replace(ROOMY, host_bytes=10**13, device_bytes=10**13)

    def turns(size: int | str) -> int:
        grid = plan(
            job(output=output, octaves={"count": 1}, tiles={"parallel": parallel, "size": size}), machine=machine
        ).final.grid
        rows, columns = grid.window_shape
        return -(-grid.tiles // parallel) * rows * columns

    assert turns("auto") <= 1.25 * min(turns(size) for size in (512, 1024, 2048))


def test_where_nothing_is_won_auto_does_not_cut() -> None:
    """A canvas as small as the halo is seen whole by every window: more workers would do the same again."""
    for parallel in (2, 8, 64):
        planned = plan(job(octaves={"count": 5}, output={"width": 400}, tiles={"parallel": parallel}))
        assert [octave.grid.tiles for octave in planned.octaves] == [1, 1, 1, 1, 1]


@settings(max_examples=40)
@given(st.integers(300, 6000), st.integers(1, 16), st.floats(4, 64), st.sampled_from(["auto", 200, 1024]))
def test_tiles_of_an_earlier_plan_make_the_same_grids(width: int, parallel: int, gigabytes: float, size: int | str) -> None:
    """On whatever machine a run goes on, and whatever `auto` would take there."""
    config = job(output={"width": width}, tiles={"parallel": parallel, "size": size})
    planned = plan(config, machine=replace(ROOMY, device_bytes=int(gigabytes * GB), shares_memory=False))
    again = plan(config, machine=ROOMY, workers=3, core_shapes=cores_of(planned))
    for mine, theirs in zip(grids_of(again), grids_of(planned), strict=True):
        assert KernelShape.of(mine) == KernelShape.of(theirs)
        for ours, others in ((mine.rows, theirs.rows), (mine.columns, theirs.columns)):
            # A tile that is larger than the canvas may be written down as large as the canvas.
            assert replace(ours, tile=ours.core_size) == replace(others, tile=others.core_size)
    assert again.kernel_bytes == planned.kernel_bytes


def test_tiles_of_an_earlier_plan_too_large_for_this_machine_are_refused() -> None:
    config = job(output={"width": 6000})
    planned = plan(config)
    with pytest.raises(UserError, match=r"a window of .* px \(halo 352\) needs"):
        plan(config, machine=replace(ROOMY, device_bytes=4 * GB), core_shapes=cores_of(planned))
