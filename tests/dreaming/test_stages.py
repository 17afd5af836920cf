"""Conditioning of gradients: the same canvas from one worker, several, after a stop, and from NumPy."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate1d

from render.dreaming.ascent import blend, jitter, luminance, measure, statistic
from render.dreaming.filters import total_variation
from render.dreaming.resample import Pixels, resample_array
from render.dreaming.shoulder import limit_change, limit_detail, restore_detail
from render.dreaming.stage import Conditioning, Stage
from render.errors import UserError
from render.farm.conductor import filter_bytes_exchanged
from render.farm.events import OctaveStarted, StepDone
from render.farm.worker import scratch
from render.farm.worker.worker import Worker
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import Grid, KernelShape, Rect, whole
from render.planning.footprint import block_bytes
from tests.dreaming.test_filters import KERNEL
from tests.support.dream_in_process import Dream, Ripples, Stop, chunks_of, small_draft
from tests.support.untiled import extended

#: Everything that a stage can do, alone and together; words with a {mask} get the path of one.
STAGES = {
    "std": ["conditioning.normalize=std"],
    "laplacian": ["conditioning.laplacian=3"],
    "laplacian, wrapped": ["conditioning.laplacian=3", "boundary.mode=wrap"],
    "cascade": ["conditioning.smoothing=1.2", "boundary.mode=wrap_x"],
    "total variation": ["conditioning.total_variation=0.7"],
    "pull": ["conditioning.pull=0.1", "step_size=4"],
    "luminance": ["conditioning.luminance_only=true"],
    "decorrelated": ["conditioning.decorrelate=1", "conditioning.total_variation=0.4"],
    "decorrelated, adam": ["conditioning.decorrelate=[0.5,0]", "optimizer.name=adam"],
    "shoulder": ["conditioning.shoulder=40", "step_size=12"],
    "momentum": ["optimizer.name=momentum"],
    "adam": ["optimizer.name=adam", "optimizer.momentum=0.8"],
    "mask": ["objective.mask={mask}"],
    "mask, std": ["objective.mask={image: {mask}, feather: 5}", "conditioning.normalize=std"],
    "half masked, laplacian": ["objective.mask={half}", "conditioning.laplacian=2", "tiles.size=64"],
    "regions": ["objective.regions=[{mask: {mask}, terms: [mixed0]}]"],
    "region alone": ["objective.terms=null", "objective.regions=[{mask: {half}, terms: [mixed0]}]"],
    "schedules": [
        "octaves.steps=[4,2]",
        "step_size=[3,1]",
        "jitter=[0,null]",
        "objective.terms=[[mixed1],[mixed0]]",
        "conditioning.normalize=[std,mean_abs]",
        "conditioning.laplacian=[2,0]",
        "conditioning.smoothing=[0,0.8]",
        "conditioning.pull=[0,0.05]",
        "conditioning.decorrelate=[0,0.7]",
        "conditioning.shoulder=[0,24]",
    ],
    "everything": [
        "objective.mask={half}",
        "objective.regions=[{mask: {mask}, terms: [mixed0]}]",
        "conditioning.laplacian=2",
        "conditioning.total_variation=0.3",
        "conditioning.pull=0.02",
        "conditioning.luminance_only=true",
        "conditioning.normalize=std",
        "optimizer.name=adam",
        "boundary.mode=wrap",
        "tiles.size=64",
    ],
}


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A soft disk, and a picture of which only the left half is white."""
    directory = tmp_path_factory.mktemp("masks")
    y, x = np.mgrid[-1:1:80j, -1:1:120j]
    half = np.zeros((160, 240), np.uint8)
    half[:, :70] = 255
    paths = {}
    for name, pixels in (("mask", np.clip(400 * (0.8 - np.hypot(y, x)), 0, 255).astype(np.uint8)), ("half", half)):
        paths[name] = directory / f"{name}.png"
        Image.fromarray(pixels).save(paths[name])
    return paths


@pytest.fixture
def words(request: pytest.FixtureRequest, masks: dict[str, Path]) -> tuple[str, ...]:
    return tuple(
        word.replace("{mask}", str(masks["mask"])).replace("{half}", str(masks["half"])) for word in STAGES[request.param]
    )


every_stage = pytest.mark.parametrize("words", STAGES, indirect=True)


@every_stage
def test_workers_and_stops_change_no_bit(words: tuple[str, ...], tmp_path: Path) -> None:
    with chunks_of(64):
        alone, events = Dream(tmp_path / "alone", *words).run(workers=1)
        assert alone.std() > 10
        several, _ = Dream(tmp_path / "several", *words).run(workers=4)
        assert several.tobytes() == alone.tobytes()
        checks = Stop()
        Dream(tmp_path / "counting", *words).run(checks, workers=3)
        # In the middle of either octave; then with other workers.
        reached = []
        for share in (0.3, 0.8):
            dream = Dream(tmp_path / str(share), *words)
            dream.stopped(Stop(int(share * checks.calls)), workers=3, every=1e9)
            reached.append(dream.saved[0] if dream.saved else None)
            resumed, again = dream.run(workers=2)
            first = next(event for event in again if isinstance(event, OctaveStarted))
            assert (first.octave.index, first.steps) == (reached[-1] or (0, 0))
            assert resumed.tobytes() == alone.tobytes(), (share, reached)
        assert any(saved and saved[1] > 0 for saved in reached)
        steps = sum(isinstance(event, StepDone) for event in events)
        assert steps == 6


@every_stage
def test_tiles_do_what_is_done_to_a_whole_canvas(words: tuple[str, ...], tmp_path: Path) -> None:
    with chunks_of(64):
        tiled, _ = Dream(tmp_path, *words).run(workers=3)
    untiled = dream_whole(words)
    # The two round sums differently: steps of some levels each make of it a thousandth of a level.
    assert np.abs(tiled - untiled).max() < 2e-2
    assert np.abs(tiled - untiled).mean() < 1e-4


def test_every_stage_dreams_another_picture(masks: dict[str, Path], tmp_path: Path) -> None:
    checksums = set()
    for name, written in STAGES.items():
        words = tuple(word.replace("{mask}", str(masks["mask"])).replace("{half}", str(masks["half"])) for word in written)
        with chunks_of(64):
            checksums.add(hashlib.sha256(Dream(tmp_path / name, *words).run(workers=1)[0].tobytes()).hexdigest())
    assert len(checksums) == len(STAGES)


@pytest.mark.parametrize("term", ["mixed1", "{layer: mixed1, channels: 3, at: [0.4,0.6]}"])
def test_a_white_mask_is_no_mask(term: str, tmp_path: Path) -> None:
    """The step of a neuron, too, which counts where its view is alone."""
    Image.new("L", (30, 20), 255).save(tmp_path / "white.png")
    means = []
    for name, words in (("without", []), ("with", [f"objective.mask={tmp_path}/white.png"])):
        dream = Dream(tmp_path / name, f"objective.terms=[{term}]", "octaves.count=1", *words)
        with chunks_of(64):
            dream.run(workers=2)
        means.append(dream.gradients[0])
    np.testing.assert_allclose(means[1], means[0], rtol=1e-4)


PLANNED = {
    "plain": [],
    "regions that stay while octaves change": [
        "objective.regions=[{mask: {mask}, terms: [mixed0]},{mask: {half}, terms: [mixed1]}]",
        "octaves.scale=1.05",
    ],
    "laplacian, adam, pull": ["conditioning.laplacian=3", "optimizer.name=adam", "conditioning.pull=0.1"],
    "shoulder": ["conditioning.shoulder=32"],
    "caricature": ["objective.terms=[{layer: mixed1, caricature: true}]", "conditioning.laplacian=[3,0]"],
}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", PLANNED)
def test_blocks_take_what_the_plan_says(
    name: str, workers: int, masks: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every array of a block is counted, and let go when the plan says so."""
    words = [word.replace("{mask}", str(masks["mask"])).replace("{half}", str(masks["half"])) for word in PLANNED[name]]
    held = most = 0
    make = scratch.empty

    def counted(*shape_and_directory: Any) -> Any:
        nonlocal held, most
        array = make(*shape_and_directory)
        held += array.nbytes
        most = max(most, held)
        weakref.finalize(array, let_go, array.nbytes)
        return array

    def let_go(size: int) -> None:
        nonlocal held
        held -= size

    monkeypatch.setattr(scratch, "empty", counted)
    with chunks_of(64):
        Dream(tmp_path, *words).run(workers=workers, every=1e9)
    draft = small_draft(*words)
    planned = sum(block_bytes(draft.plan.octaves, workers, draft.resolved.schedule))
    assert 0.9 * planned < most <= planned


def test_masks_count_as_memory(tmp_path: Path) -> None:
    plans = []
    for side in (100, 1100):
        Image.new("L", (side, side), 255).save(tmp_path / f"{side}.png")
        plans.append(small_draft(f"objective.mask={tmp_path}/{side}.png").plan.memory_bytes)
    assert plans[1] - plans[0] == 4 * (1100**2 - 100**2)


def test_what_a_filter_sends_is_foreseen(tmp_path: Path) -> None:
    """Bytes of gradients, by geometry, and as they are asked for."""
    octave = small_draft("conditioning.laplacian=3").plan.final
    blocks = deal_blocks(octave.grid, 4)
    sent = 0
    real = Worker.read_gradient

    def counted(worker: Worker, rects: Sequence[Rect]) -> list[Pixels]:
        nonlocal sent
        loans = real(worker, rects)
        sent += sum(pixels.nbytes for pixels in loans)
        return loans

    with chunks_of(64), mock.patch.object(Worker, "read_gradient", counted):
        Dream(tmp_path, "conditioning.laplacian=3", "octaves.steps=[0,1]").run(workers=4)
    assert sent == filter_bytes_exchanged(blocks, octave.stage) > 0
    assert filter_bytes_exchanged(blocks, Stage(1, 1.0)) == 0


class Silent(Ripples):
    """The first objective is excited by nothing."""

    def __call__(self, shape, window, given, offset, *more) -> np.ndarray:
        gradient = super().__call__(shape, window, given, offset)
        return 0 * gradient if given.objective == 0 else gradient


def test_a_region_that_nothing_excites_leaves_the_others_alone(
    masks: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The silent region, left of the middle, keeps the source.

    If all are silent, the run says so and ends.
    """
    region = f"objective.regions=[{{mask: {masks['half']}, terms: [mixed0]}}]"
    dream = Dream(tmp_path / "one", region, "objective.terms=[mixed1]", "octaves.count=1")
    canvas, _ = dream.run(kernel=Silent())
    source = dream.source
    assert (canvas[:, :65] == source[:, :65]).all()
    assert np.abs(canvas[:, 75:] - source[:, 75:]).mean() > 1
    assert "octave 1, step 1: nothing in the picture excites mixed0 under its mask" in caplog.text
    alone = Dream(tmp_path / "all", "octaves.count=1")
    with pytest.raises(UserError, match="zero everywhere at octave 1, step 1: nothing in the picture excites mixed1"):
        alone.run(kernel=Silent())


# The same in plain NumPy, on one array that is the whole canvas


def dream_whole(words: Sequence[str]) -> Pixels:
    draft = small_draft(*words)
    canvas, detail = None, None
    for octave in draft.plan.octaves:
        shape = octave.shape
        source = draft.resolved.source.at(shape, whole(*shape))
        canvas = source.copy()
        if detail is not None:
            change = widened(detail, shape, octave.grid)
            if octave.stage.conditioning.shoulder:
                change = limit_detail(canvas, change, octave.stage.conditioning.shoulder)
            canvas = np.clip(canvas + change, 0, 255)
        masks = [mask.at(shape, whole(*shape)) for mask in draft.resolved.masks]
        moments = [np.zeros_like(canvas) for _ in range(octave.stage.optimizer.moments)]
        for step in range(octave.steps):
            canvas = step_whole(draft, octave, canvas, source, masks, moments, step)
        detail = canvas - source
        if octave.stage.conditioning.shoulder:
            detail = restore_detail(source, detail, octave.stage.conditioning.shoulder)
    assert canvas is not None
    return canvas


def widened(detail: Pixels, shape: tuple[int, int], grid: Grid) -> Pixels:
    """Return the detail resampled, repeated where an axis wraps.

    Of three copies side by side the middle one is right.
    """
    copies = [3 if axis.mode == "wrap" else 1 for axis in (grid.rows, grid.columns)]
    wide = resample_array(np.tile(detail, (*copies, 1)), (copies[0] * shape[0], copies[1] * shape[1]))
    top, left = ((count // 2) * side for count, side in zip(copies, shape, strict=True))
    return wide[top : top + shape[0], left : left + shape[1]]


def step_whole(draft, octave, canvas: Pixels, source: Pixels, masks, moments, step: int) -> Pixels:
    stage: Stage = octave.stage
    grid, conditioning = octave.grid, stage.conditioning
    shift = jitter(draft.resolved.seed, octave.index, step, grid.rows.stride, stage.jitter)
    gradients, weights, statistics = [], [], []
    for region in stage.regions:
        kernel_inputs = GivenTo(region.objective)
        pixels, (top, left) = extended(grid, canvas, shift)
        gradient = Ripples()(KernelShape(pixels.shape[:2], pixels.shape[:2]), pixels, kernel_inputs, (0, 0))
        gradient = gradient[top : top + canvas.shape[0], left : left + canvas.shape[1]].astype(np.float32)
        mask = np.ones(canvas.shape[:2], np.float32)
        for number in region.masks:
            mask = mask * masks[number]
        if region.outside:
            mask = mask * (1 - np.minimum(1, sum(masks[number] for number in region.outside)))
        gradient = in_colour(gradient, conditioning)
        if conditioning.laplacian:
            gradient = laplacian_whole(gradient, conditioning.laplacian, grid, mask)
        if conditioning.smoothing:
            gradient = cascade_whole(gradient, conditioning.smoothing, grid)
        gradients.append(gradient)
        weights.append(mask)
        statistics.append(statistic(measure(gradient, mask, conditioning.normalize), conditioning.normalize))
    direction, follow = blend(gradients, weights, statistics)
    if conditioning.total_variation:
        around = padded(canvas, 1, grid)
        rough = total_variation(around, whole(*canvas.shape[:2]).grown(1), whole(*canvas.shape[:2]))
        direction = direction - conditioning.total_variation * in_colour(rough, conditioning)
    if moments:
        axes = np.linalg.inv(axes_of(conditioning.decorrelate)) if conditioning.decorrelate else np.eye(3)
        direction = stage.optimizer.update((direction @ axes.T).astype(np.float32), moments, step) @ np.linalg.inv(axes).T
    assert follow is not None
    displacement = stage.step_size * direction - conditioning.pull * (canvas - source)
    change = (follow[..., None] * displacement).astype(np.float32)
    if conditioning.shoulder:
        change = limit_change(canvas, source, change, conditioning.shoulder)
    return np.clip(canvas + change, 0, 255).astype(np.float32)


#: Lucid's color_correlation_svd_sqrt over the length of its longest column.
ROOT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
ROOT /= np.linalg.norm(ROOT[:, 0])


def axes_of(strength: float) -> np.ndarray:
    """The root with its singular values raised to a power, scaled so that a sum of its columns moves a channel by 1."""
    left, values, right = np.linalg.svd(ROOT)
    axes = left @ np.diag(values**strength) @ right
    return axes / np.mean([np.abs(axes @ signs) for signs in itertools.product((1, -1), repeat=3)])


def in_colour(gradient: Pixels, conditioning: Conditioning) -> Pixels:
    if conditioning.luminance_only:
        return luminance(gradient)
    left, values, _ = np.linalg.svd(ROOT)
    return gradient @ (left @ np.diag(values ** (2 * conditioning.decorrelate)) @ left.T)


class GivenTo:
    """Kernel inputs of an objective whose divisor is 1."""

    def __init__(self, objective: int) -> None:
        self.objective = objective
        self.factors = (1.0,)


def padded(pixels: Pixels, by: int, grid: Grid) -> Pixels:
    tall = np.pad(pixels, ((by, by), (0, 0), (0, 0)), mode=grid.rows.mode)
    return np.pad(tall, ((0, 0), (by, by), (0, 0)), mode=grid.columns.mode)


def laplacian_whole(gradient: Pixels, levels: int, grid: Grid, mask: np.ndarray) -> Pixels:
    """Every level over its root mean square, by whole arrays in float64."""
    margin = 8 << levels
    low, origin = padded(gradient, margin, grid).astype(np.float64), margin
    taps = KERNEL.sum(0)
    bands = []
    for _ in range(levels):
        small = correlate1d(correlate1d(low, taps, 0), taps, 1)[::2, ::2]
        wide = np.zeros_like(low)
        wide[::2, ::2] = small
        expanded = correlate1d(correlate1d(wide, 2 * taps, 0), 2 * taps, 1)
        bands.append(low - expanded)
        low = small
    merged = None
    for level, band in [*reversed(list(enumerate(bands)))]:
        if merged is None:
            merged = low / rms(low, levels, gradient.shape, origin, mask)
        wide = np.zeros_like(band)
        wide[::2, ::2] = merged
        merged = correlate1d(correlate1d(wide, 2 * taps, 0), 2 * taps, 1)
        merged = merged + band / rms(band, level, gradient.shape, origin, mask)
    assert merged is not None
    return merged[margin : margin + gradient.shape[0], margin : margin + gradient.shape[1]].astype(np.float32)


def rms(band: np.ndarray, level: int, shape: Sequence[int], origin: int, mask: np.ndarray) -> float:
    """Over the level's lattice points on the canvas, weighed by the mask there."""
    first = origin >> level
    inside = band[first : first + -(-shape[0] // 2**level), first : first + -(-shape[1] // 2**level)]
    weights = mask[:: 2**level, :: 2**level, None].astype(np.float64)
    return float(np.sqrt((weights * inside**2).sum() / (3 * weights.sum())))


def cascade_whole(gradient: Pixels, sigma: float, grid: Grid) -> Pixels:
    margin = int(np.ceil(6 * sigma)) + 1
    around = padded(gradient, margin, grid).astype(np.float64)
    blurred = []
    for width in (sigma / 2, sigma, 2 * sigma):
        distance = np.arange(-int(np.ceil(3 * width)), int(np.ceil(3 * width)) + 1)
        taps = np.exp(-(distance**2) / (2 * width**2))
        taps /= taps.sum()
        blurred.append(correlate1d(correlate1d(around, taps, 0), taps, 1))
    whole_picture = np.mean(blurred, axis=0)
    return whole_picture[margin : margin + gradient.shape[0], margin : margin + gradient.shape[1]].astype(np.float32)
