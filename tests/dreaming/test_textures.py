"""Textures: sums over the whole canvas that no deal changes, gradients that are exact by tiles, and what they do."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from render.dreaming.exact_sums import LARGEST, ExactSums
from render.dreaming.gram import centred_in, packed, span_inside, unpacked
from render.dreaming.objectives import Objective, resolve
from render.dreaming.resample import Pixels
from render.dreaming.term_syntax import NoMaterials, Picture
from render.dreaming.texture import Texture
from render.errors import NumericalError, UserError
from render.farm.events import StepDone
from render.farm.worker.canvas_sums import CanvasMeasurer
from render.geometry.geometry import BOUNDARY_MODES, Axis
from render.networks.architecture import ReceptiveField
from render.networks.weights import MODELS, Loaded
from tests.support.dream_in_process import Dream, Stop, chunks_of, small_draft
from tests.support.untiled import (
    assert_equal,
    kernel_of,
    make_grid,
    photo,
    plain_target,
    tiled_gradient,
    untiled_gradient,
)

SLOW = settings(deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


class Textures(NoMaterials):
    """Materials whose every texture is one photograph."""

    def __init__(self, shape: tuple[int, int] = (190, 230)) -> None:
        self._shape = shape

    def texture(self, path: str) -> Picture:
        return Picture(photo(*self._shape, "coffee"), path)


def texture_of(loaded: Loaded, *layers: str, scale: float = 1, shape: tuple[int, int] = (190, 230)) -> Objective:
    term = {"layers": list(layers), "texture": "coffee", "scale": scale}
    return resolve([term], loaded.architecture, Textures(shape))


# Sums


NUMBERS = st.lists(st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False), min_size=1, max_size=40)


@given(NUMBERS, st.randoms(), st.integers(1, 5))
def test_sums_are_the_same_in_any_order_and_grouping(numbers: list[float], random, groups: int) -> None:
    parts = [ExactSums.of(np.array([number, -number])) for number in numbers]
    in_order = reduce(ExactSums.plus, parts)
    random.shuffle(parts)
    grouped = [reduce(ExactSums.plus, parts[first::groups]) for first in range(min(groups, len(parts)))]
    total = reduce(ExactSums.plus, grouped)
    np.testing.assert_array_equal(total.high, in_order.high)
    np.testing.assert_array_equal(total.low, in_order.low)
    np.testing.assert_array_equal(total.totals(), in_order.totals())
    assert total.totals()[0] == -total.totals()[1]
    # Each number is rounded once, to 2^-45.
    assert total.totals()[0] == pytest.approx(math.fsum(numbers), rel=1e-14, abs=len(numbers) * 2.0**-46)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1.1 * LARGEST])
def test_numbers_that_cannot_be_added_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        ExactSums.of(np.array([1.0, number]))
    assert ExactSums.of(np.array([LARGEST, -LARGEST])).totals().tolist() == [LARGEST, -LARGEST]


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_matrices_travel_as_their_upper_halves(channels: int, seed: int) -> None:
    activations = np.random.default_rng(seed).normal(size=(9, channels))
    matrix, weight = unpacked(packed(activations.T @ activations, 9.0))
    assert weight == 9
    np.testing.assert_allclose(matrix, activations.T @ activations / 9, atol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.T)


def test_no_position_makes_no_matrix(inception: Loaded) -> None:
    matrix, weight = unpacked(packed(np.zeros((3, 3)), 0.0))
    assert (matrix == 0).all()
    term = texture_of(inception, "mixed0").textures[0]
    assert (term.ascent_matrix(matrix, weight, np.eye(3)) == 0).all()
    assert (term.ascent_matrix(matrix, 5.0, np.zeros((3, 3))) == 0).all()


# Positions


AXES = st.builds(
    lambda length, tile, fill, stride, mode: Axis(length, tile, 64, fill, stride, mode),
    st.integers(20, 200),
    st.integers(16, 120),
    st.integers(0, 40),
    st.sampled_from([8, 16]),
    st.sampled_from(["reflect", "wrap"]),
)


@given(AXES, st.integers(0, 15), st.sampled_from([4, 8]), st.integers(-30, 0), st.integers(0, 60))
def test_every_position_inside_counts_in_one_tile(axis: Axis, jitter: int, stride: int, low: int, size: int) -> None:
    jitter %= axis.stride
    field, origin = ReceptiveField(stride, low, low + size), -axis.fill - jitter
    count = axis.extended // stride
    counted: list[int] = []
    for number in range(axis.tiles):
        window, core = axis.window_of(number, jitter), axis.core(number)
        first = (window.start - origin) // stride
        counted += [first + int(index) for index in centred_in(field, window, core, window.size // stride)[0]]
    centres = {index: origin + index * stride + (low + low + size) // 2 for index in range(count)}
    expected = [index for index, centre in centres.items() if 0 <= centre < axis.length]
    # A window holds the views of its core only if its halo is exact; here it is wide enough.
    assert counted == [index for index in expected if index in counted]
    assert len(set(counted)) == len(counted)
    for number in range(axis.tiles):
        window = axis.window_of(number, jitter)
        start, stop = span_inside(axis, field, count, window.start, jitter)
        first = (window.start - origin) // stride
        inside = [first + index for index in range(start, stop)]
        assert inside == (list(range(count)) if axis.mode == "wrap" else expected)


def test_a_picture_is_shown_beside_the_canvas(inception: Loaded) -> None:
    """As long as the canvas times the scale, never enlarged, and never shrunk below what the layer sees."""
    layer = inception.architecture.layer("mixed0")
    assert layer.receptive_field == 63
    for scale, canvas, shown in (
        (1, (100, 115), (95, 115)),
        (0.5, (200, 230), (95, 115)),
        (1, (2000, 3000), (190, 230)),
        (1, (20, 30), (63, 76)),
        (0.01, (400, 300), (63, 76)),
        (3, (50, 50), (124, 150)),
    ):
        assert texture_of(inception, "mixed0", scale=scale).textures[0].shown_shape(canvas, layer) == shown


# Gradients


@pytest.mark.slow
@pytest.mark.parametrize("model", ["inception_v3", "googlenet"])
def test_two_passes_over_tiles_are_one_over_the_canvas(model: str, loaded_by_name) -> None:
    """Property: any shape, tiles, boundary, jitter, number of blocks, scale."""
    loaded = loaded_by_name(model)
    layers = {"inception_v3": ("conv2d_2b_3x3", "mixed0"), "googlenet": ("conv2/3x3", "inception_3a")}[model]

    @settings(SLOW, max_examples=3)
    @given(
        boundary=st.sampled_from(sorted(BOUNDARY_MODES)),
        shape=st.tuples(st.integers(70, 150), st.integers(70, 190)),
        tile=st.sampled_from([40, 64, 200]),
        jitter=st.tuples(st.integers(0, 7), st.integers(0, 7)),
        workers=st.integers(1, 4),
        scale=st.sampled_from([0.3, 1, 2]),
    )
    def holds(boundary: str, shape, tile: int, jitter, workers: int, scale: float) -> None:
        objective = texture_of(loaded, *layers, scale=scale)
        grid = make_grid(loaded, objective, shape, tile, boundary)
        canvas = photo(*shape)
        untiled = untiled_gradient(loaded, objective, grid, canvas, jitter)
        tiled = tiled_gradient(kernel_of(loaded, objective), loaded, grid, canvas, jitter, workers)
        assert_equal(tiled, untiled, (boundary, shape, tile, jitter, workers, scale))

    holds()


def test_a_torus_has_no_seam(inception: Loaded) -> None:
    """Moving a wrapping canvas by whole strides moves its gradient: positions near the edges are as good as others."""
    objective = texture_of(inception, "mixed0")
    picture = photo(128, 192)
    grid = make_grid(inception, objective, picture.shape[:2], 64, "wrap")
    kernel = kernel_of(inception, objective)
    gradient = tiled_gradient(kernel, inception, grid, picture, (0, 0))
    moved = tiled_gradient(kernel, inception, grid, np.roll(picture, (-64, -96), (0, 1)), (0, 0), workers=3)
    assert_equal(np.roll(moved, (64, 96), (0, 1)), gradient, "moved")


def test_a_texture_is_measured_by_tiles_as_in_one_piece(inception: Loaded) -> None:
    """With windows that do not grow with the picture."""
    objective = texture_of(inception, "mixed0", shape=(300, 420))
    term = objective.textures[0]
    assert isinstance(term, Texture)
    measurer = CanvasMeasurer(kernel_of(inception, objective), [objective], inception.architecture)
    canvas = make_grid(inception, objective, (260, 390), 64, "wrap")
    grid = term.grid(canvas, inception.architecture.layer("mixed0"))
    assert grid.canvas.shape == (279, 390)
    assert max(grid.window_shape) < 200
    tiles = [measurer.texture_sums(canvas, 0, 0, first, 4) for first in range(0, grid.tiles, 4)]
    target, positions = unpacked(reduce(ExactSums.plus, tiles))
    # Every stride of 8 px has one position.
    assert positions == pytest.approx(279 * 390 / 64, rel=0.03)
    np.testing.assert_allclose(target, plain_target(inception, term, canvas), atol=1e-5 * np.abs(target).max())


def test_activations_that_are_not_finite_are_refused(inception: Loaded) -> None:
    class Broken:
        def gram_products(self, window: Pixels, weights) -> dict:
            return {name: np.full((2, 2), np.nan, np.float32) for name in weights}

    objective = texture_of(inception, "mixed0")
    measurer = CanvasMeasurer(Broken(), [objective], inception.architecture)
    canvas = make_grid(inception, objective, (128, 128), 64, "reflect")
    with pytest.raises(NumericalError, match="the activations of mixed0 are not finite where the texture is measured"):
        measurer.texture_sums(canvas, 0, 0, 0, 1)


# Dreams


#: What a texture can be combined with; {half} is a mask.
DREAMS = {
    "plain": [],
    "wrapped, laplacian, adam": ["boundary.mode=wrap", "conditioning.laplacian=2", "optimizer.name=adam"],
    "with others, pull, schedule": [
        "objective.terms=[[{texture: 'sample:coffee', layer: mixed0}],"
        "['0.001*mixed0:3', {layer: mixed0, strongest: 2, weight: 0.001}, {texture: 'sample:coffee', layers: [mixed0]}]]",
        "conditioning.pull=0.05",
        "jitter=[0,null]",
    ],
    "regions": [
        "objective.terms=[0.1*mixed0]",
        "objective.regions=[{mask: {half}, terms: [{texture: 'sample:coffee', layer: mixed0}]}]",
    ],
    "mask": ["objective.mask={half}"],
}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask: white at the left, a soft edge, black from the middle on."""
    path = tmp_path_factory.mktemp("masks") / "half.png"
    Image.fromarray(np.tile(np.clip(np.linspace(700, -500, 240), 0, 255).astype(np.uint8), (160, 1))).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", DREAMS)
def test_workers_and_stops_change_no_bit(name: str, half: Path, inception: Loaded, tmp_path: Path) -> None:
    """With the real network: one worker, four, and a run stopped within each octave."""
    words = ["objective.terms=[{texture: 'sample:coffee', layers: [conv2d_2b_3x3, mixed0]}]", "output.width=180"]
    words += ["tiles.size=64", "octaves.steps=2", *(word.replace("{half}", str(half)) for word in DREAMS[name])]
    alone = Dream(tmp_path / "alone", *words)
    kernel = kernel_of(inception, *alone.objectives)
    with chunks_of(64):
        canvas, _ = alone.run(workers=1, kernel=kernel)
        counting = Stop()
        several, _ = Dream(tmp_path / "several", *words).run(counting, workers=4, kernel=kernel)
        assert several.tobytes() == canvas.tobytes()
        assert np.abs(canvas - alone.source).mean() > 0.5
        stopped = Dream(tmp_path / "stopped", *words)
        for share in (0.4, 0.3):
            stopped.stopped(Stop(int(share * counting.calls)), workers=3, kernel=kernel)
            assert stopped.saved
        resumed, events = stopped.run(workers=2, kernel=kernel)
        assert sum(isinstance(event, StepDone) for event in events) < 4
        assert resumed.tobytes() == canvas.tobytes()


def test_under_a_mask_the_texture_is_measured_there_alone(half: Path, inception: Loaded, tmp_path: Path) -> None:
    """What lies where the mask is black may be anything."""
    words = ["objective.terms=[{texture: 'sample:coffee', layer: conv2d_2b_3x3}]", "output.width=180", "octaves.count=1"]
    words += ["tiles.size=64", "octaves.steps=1", f"objective.mask={half}"]
    pixels = np.array(Image.fromarray(photo(120, 180).astype(np.uint8)))
    canvases = []
    for name in ("first", "second"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        pixels[:, 150:] = 255 - pixels[:, 150:]
        dream = Dream(tmp_path / name, *words, f"image={tmp_path}/{name}.png")
        with chunks_of(64):
            canvases.append(dream.run(workers=2, kernel=kernel_of(inception, *dream.objectives))[0])
    np.testing.assert_array_equal(canvases[0][:, :60], canvases[1][:, :60])
    assert np.abs(canvases[0][:, :60] - dream.source[:, :60]).mean() > 0.5


def test_objectives_without_textures_pay_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("nothing is to be measured")

    for method in ("begin", "add", "collect", "texture_sums"):
        monkeypatch.setattr(CanvasMeasurer, method, unwanted)
    with chunks_of(64):
        Dream(tmp_path, "octaves.steps=1").run(workers=2)


def test_measuring_counts_as_work() -> None:
    """Its windows are smaller than those of gradients."""
    plain, textured = (
        small_draft(f"objective.terms=[{term}]").plan.final.window_flops
        for term in ("mixed1", "{layer: mixed1, texture: 'sample:coffee'}")
    )
    assert 1.1 < textured / plain < 1.6


@pytest.mark.slow
def test_a_dream_comes_to_have_the_texture_of_its_own_picture(inception: Loaded, tmp_path: Path) -> None:
    """The matrices' distance falls by a third, and to the other picture's by less."""
    term, layers = "objective.terms=[{texture: 'sample:%s', layers: [conv2d_2b_3x3, mixed0]}]", ("conv2d_2b_3x3", "mixed0")
    words = ["octaves.count=1", "octaves.steps=12", "step_size=3", "output.width=200"]
    names = ("coffee", "hubble")
    dreams = {name: Dream(tmp_path / name, term % name, *words) for name in names}
    canvases = {}
    for name, dream in dreams.items():
        with chunks_of(64):
            canvases[name] = dream.run(kernel=kernel_of(inception, *dream.objectives))[0]

    def distance(pixels: Pixels, name: str) -> float:
        total = 0.0
        grid = make_grid(inception, dreams[name].objectives[0], pixels.shape[:2], 96, "reflect")
        for layer in layers:
            texture = next(term for term in dreams[name].objectives[0].terms if term.layer == layer)
            target = plain_target(inception, texture, grid)
            own = plain_target(inception, Texture(layer, "canvas", "", pixels), grid)
            total += float(np.linalg.norm(own - target) / np.linalg.norm(target))
        return total

    source = dreams["coffee"].source
    for name, other in itertools.permutations(names):
        assert distance(canvases[name], name) < 0.67 * distance(source, name)
        assert distance(canvases[name], name) < 0.8 * distance(canvases[other], name)


# Bad input


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ({"layer": "mixed4", "texture": "a.png"}, "texture a.png is 230 x 190 px and mixed4 of inception_v3 needs 351 px"),
        ({"layers": ["mixed0", "mixed9"], "texture": "a.png"}, "mixed9 of inception_v3 needs 1183 px a side"),
        ({"layer": "mixed0", "texture": 5}, "objective texture: 5 must be the path of a picture"),
        ({"layer": "mixed0", "texture": "a.png", "scale": 0}, "objective scale: 0 must be a number from 0.01 to 100"),
        ({"layer": "mixed0", "texture": "a.png", "scale": "big"}, "objective scale: 'big' must be a number"),
        ({"layer": "mixed0", "texture": "a.png", "scale": math.nan}, "objective scale: nan must be a number"),
        ({"layers": [], "texture": "a.png"}, "must be a list of layers, such as"),
        ({"layers": "mixed0", "texture": "a.png"}, "must be a list of layers, such as"),
        ({"layers": ["mixed0", "mixed0"], "texture": "a.png"}, "names a layer twice"),
        ({"layers": [["mixed0"]], "texture": "a.png"}, "needs a `layer`"),
        ({"layers": ["mixed0"], "layer": "mixed1", "texture": "a.png"}, "has both 'layer' and 'layers'"),
        ({"layers": ["mixd0"], "texture": "a.png"}, "no layer 'mixd0': did you mean mixed0"),
        ({"layers": ["mixed0"], "strongest": 5}, "'layers' does not go with 'strongest'"),
        ({"layer": "mixed0", "texture": "a.png", "guide": "b.png"}, "has both 'guide' and 'texture'"),
        ({"layer": "mixed0", "texture": "a.png", "channels": 3}, "'channels' does not go with 'texture'"),
        ({"texture": "a.png"}, "needs a `layer`"),
    ],
)
def test_a_texture_without_meaning_is_refused_in_one_line(term: dict, said: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve([term], MODELS["inception_v3"].architecture, Textures())
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
