"""Every kind of objective on real weights: tiles are exact, and following the gradient raises it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from render.dreaming.objectives import Objective, resolve
from render.dreaming.picture_terms import Guide
from render.dreaming.resample import Pixels
from render.dreaming.term_base import TrainedModel
from render.dreaming.term_syntax import NoMaterials, Picture
from render.dreaming.terms import KINDS, Class, Neuron, Strongest
from render.dreaming.texture import Texture
from render.errors import UserError
from render.farm.events import StepDone
from render.geometry.geometry import BOUNDARY_MODES, Interval, KernelShape, Rect
from render.networks.network import Network
from render.networks.weights import Loaded
from tests.support.dream_in_process import Dream, Stop, chunks_of
from tests.support.untiled import (
    assert_equal,
    extended,
    kernel_of,
    make_grid,
    photo,
    plain_target,
    plain_value,
    strongest_channels,
    tiled_gradient,
    untiled_gradient,
)

SLOW = settings(deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


class Guides(NoMaterials):
    """Materials whose every guide is one photograph."""

    def picture(self, path: str) -> Picture:
        return Picture(photo(120, 140, path), path)

    def texture(self, path: str) -> Picture:
        return Picture(photo(230, 270, path), path)


#: At least one term of every kind, on shallow layers so that windows are true parts of a small canvas.
TERMS = {
    "layer": ("inception_v3", ["mixed0"]),
    "mean": ("inception_v3", [{"layer": "mixed1", "measure": "mean"}]),
    "l1": ("inception_v3", [{"layer": "mixed0/branch5x5_2", "measure": "l1"}]),
    "channels": ("inception_v3", ["mixed1:7+30-33"]),
    "channels squared": ("inception_v3", [{"layer": "mixed0", "channels": [3, 100], "measure": "square"}]),
    "suppressed": ("inception_v3", ["mixed1:30", "-0.5*mixed0"]),
    "regular expression": ("inception_v3", ["/mixed[01]/", "0.5*/conv2d_.a_3x3/"]),
    "neuron": ("inception_v3", [{"layer": "mixed1", "channels": 30, "at": [0.3, 0.8]}]),
    "neuron at the corner": ("googlenet", [{"layer": "inception_3a", "channels": 80, "at": [1.0, 0.0]}]),
    "neuron at the seam": ("inception_v3", [{"layer": "mixed0", "channels": 100, "at": [0.02, 0.99]}]),
    "strongest": ("inception_v3", [{"layer": "mixed1", "strongest": 4}]),
    "weakest": ("googlenet", [{"layer": "inception_3a", "weakest": 5}]),
    "direction": ("inception_v3", [{"layer": "mixed0", "direction": [math.sin(i) for i in range(256)]}]),
    "strict direction": (
        "googlenet",
        [{"layer": "inception_3a", "direction": [abs(math.cos(i)) for i in range(256)], "power": 2}],
    ),
    "guide": ("inception_v3", [{"layer": "mixed1", "guide": "coffee"}]),
    "caricature": ("inception_v3", [{"layer": "mixed1", "caricature": True}]),
    "strict caricature": ("googlenet", [{"layer": "inception_3a", "caricature": True, "power": 2}]),
    "texture": ("inception_v3", [{"layer": "mixed1", "texture": "coffee"}]),
    "textures": ("googlenet", [{"layers": ["pool1/norm1", "inception_3a"], "texture": "rocket", "scale": 0.7}]),
    "several": (
        "inception_v3",
        ["mixed0:5", {"layer": "mixed1", "caricature": True, "weight": 0.5}, {"layer": "mixed0", "strongest": 2}],
    ),
}


@dataclass(frozen=True)
class Case:
    """A canvas that is not its source, and the objective."""

    loaded: Loaded
    objective: Objective
    source: Pixels
    canvas: Pixels

    @classmethod
    def of(cls, loaded: Loaded, terms: list, shape: tuple[int, int]) -> Case:
        source = photo(*shape)
        canvas = np.clip(source + np.random.default_rng(0).normal(0, 8, source.shape), 0, 255).astype(np.float32)
        return cls(loaded, resolve(terms, loaded.architecture, Guides()), source, canvas)


@pytest.fixture
def case(request: pytest.FixtureRequest, loaded_by_name) -> Case:
    model, terms = TERMS[request.param]
    return Case.of(loaded_by_name(model), terms, (131, 212))


every_kind = pytest.mark.parametrize("case", TERMS, indirect=True)


def test_there_is_a_case_of_every_kind(inception: Loaded) -> None:
    kinds = set()
    for model, terms in TERMS.values():
        if model == "inception_v3":
            kinds |= {type(term) for term in resolve(terms, inception.architecture, Guides()).terms}
    # Classes need a network whose view is wider than these canvases; they have a test of their own.
    assert kinds | {Class} == set(KINDS)


@every_kind
def test_tiled_gradient_equals_untiled_for_every_objective(case: Case) -> None:
    """Property: any tiles, boundary, jitter and number of blocks."""
    kernel = kernel_of(case.loaded, case.objective)

    @settings(SLOW, max_examples=1)
    @given(
        boundary=st.sampled_from(sorted(BOUNDARY_MODES)),
        tile=st.sampled_from([48, 70]),
        jitter=st.tuples(st.integers(0, 15), st.integers(0, 15)),
        workers=st.integers(1, 4),
    )
    def holds(boundary: str, tile: int, jitter: tuple[int, int], workers: int) -> None:
        grid = make_grid(case.loaded, case.objective, case.canvas.shape[:2], tile, boundary)
        shift = (jitter[0] % grid.rows.stride, jitter[1] % grid.rows.stride)
        untiled = untiled_gradient(case.loaded, case.objective, grid, case.canvas, shift, case.source)
        tiled = tiled_gradient(kernel, case.loaded, grid, case.canvas, shift, workers, case.source)
        # The objective's own unit: weights count relative to the largest.
        assert_equal(tiled, untiled / max(abs(term.weight) for term in case.objective.terms), (boundary, tile, shift))

    holds()


@every_kind
def test_ascent_raises_every_objective(case: Case) -> None:
    raises_its_objective(case.loaded, case.objective, case.source, case.canvas)


def raises_its_objective(loaded: Loaded, objective: Objective, source: Pixels, canvas: Pixels) -> None:
    """Check that each of three small steps along the gradient raises the objective.

    The objective is computed plainly.
    """
    grid = make_grid(loaded, objective, canvas.shape[:2], 96, "reflect")
    kernel = kernel_of(loaded, objective)
    network = Network(loaded.architecture.truncated(objective.layers), loaded.parameters)

    def value(pixels: Pixels) -> float:
        extended_pixels, before = extended(grid, pixels, (0, 0))
        activations = network(jnp.asarray(extended_pixels), objective.layers)
        references = {
            "activations": network(jnp.asarray(extended(grid, source, (0, 0))[0]), objective.layers),
            "chosen": {
                term: strongest_channels(loaded, term, grid, source)
                for term in objective.terms
                if isinstance(term, Strongest)
            },
            "wraps": (False, False),
            "guide": {
                term: network(jnp.asarray(term.pixels), [term.layer])[term.layer]
                for term in objective.terms
                if isinstance(term, Guide)
            },
            "textures": {term: plain_target(loaded, term, grid) for term in objective.terms if isinstance(term, Texture)},
        }
        shape = pixels.shape[:2]
        return sum(
            term.weight * float(plain_value(term, loaded, activations, references, before, shape))
            for term in objective.terms
        )

    values = [value(canvas)]
    for _ in range(3):
        gradient = tiled_gradient(kernel, loaded, grid, canvas, (0, 0), source=source)
        scale = np.abs(gradient).mean() / objective.support(loaded.architecture, canvas.shape[:2])
        canvas = canvas + np.float32(0.5 / scale) * gradient
        values.append(value(canvas))
    assert values == sorted(values), values
    assert values[-1] > values[0] + 0.01 * abs(values[0]), values


@pytest.mark.slow
def test_a_class_is_dreamed_of_by_tiles(googlenet: Loaded) -> None:
    """Its view is 715 px wide: one long canvas, whose windows are true parts of it."""
    case = Case.of(googlenet, [{"class": 543}], (64, 1900))
    grid = make_grid(googlenet, case.objective, case.canvas.shape[:2], 96, "reflect")
    assert grid.window_shape[1] < grid.extended_shape[1]
    untiled = untiled_gradient(googlenet, case.objective, grid, case.canvas, (3, 17))
    tiled = tiled_gradient(kernel_of(googlenet, case.objective), googlenet, grid, case.canvas, (3, 17))
    assert_equal(tiled, untiled, "class")


def test_a_class_is_the_networks_own_score(googlenet: Loaded) -> None:
    """And rises."""
    objective = resolve([{"class": 543}], googlenet.architecture)
    source = photo(224, 224)
    network = Network(googlenet.architecture, googlenet.parameters)
    bias = googlenet.parameters["loss3/classifier/bias"][543]
    activations = network(jnp.asarray(source), objective.layers)
    value = plain_value(objective.terms[0], googlenet, activations, {}, (0, 0), (224, 224))
    assert float(value) + bias == pytest.approx(float(network.logits(jnp.asarray(source))[543]), rel=1e-4)
    raises_its_objective(googlenet, objective, source, source)


def test_a_neuron_looks_where_it_is_told(inception: Loaded) -> None:
    """Its gradient lies in its receptive field, centred within a stride of the place.

    Jitter does not matter.
    """
    shape = (200, 320)
    objective = resolve([{"layer": "mixed0", "channels": 164, "at": [0.25, 0.7]}], inception.architecture)
    assert isinstance(objective.terms[0], Neuron)
    kernel = kernel_of(inception, objective)
    grid = make_grid(inception, objective, shape, 64, "reflect")
    field = inception.architecture.layer("mixed0").receptive_field
    assert objective.support(inception.architecture, shape) == pytest.approx(field**2 / (200 * 320))
    for jitter in ((0, 0), (5, 2)):
        gradient = np.abs(tiled_gradient(kernel, inception, grid, photo(*shape), jitter)).sum(-1)
        rows, columns = (np.flatnonzero(gradient.any(axis)) for axis in (1, 0))
        assert np.ptp(rows) < field
        assert np.ptp(columns) < field
        assert abs(rows.mean() - 140) <= 8
        assert abs(columns.mean() - 80) <= 8


def test_a_neurons_view_goes_around_the_seam(inception: Loaded) -> None:
    """On a torus a place at the edge has the gradient of the middle, moved."""
    picture = photo(128, 192)
    gradients = {}
    for at, shift in (((0.5, 0.5), (0, 0)), ((0.0, 0.0), (64, 96))):
        objective = resolve([{"layer": "mixed0", "channels": 164, "at": list(at)}], inception.architecture)
        grid = make_grid(inception, objective, picture.shape[:2], 64, "wrap")
        rolled = np.roll(picture, (-shift[0], -shift[1]), (0, 1))
        gradient = tiled_gradient(kernel_of(inception, objective), inception, grid, rolled, (0, 0), workers=3)
        gradients[at] = np.roll(gradient, shift, (0, 1))
    assert_equal(gradients[0.0, 0.0], gradients[0.5, 0.5], "moved")


def test_a_class_needs_weights_that_have_a_classifier(googlenet: Loaded) -> None:
    parameters = {name: array for name, array in googlenet.parameters.items() if not name.startswith("loss3/classifier/")}
    kernel = kernel_of(replace(googlenet, parameters=parameters), resolve([{"class": 543}], googlenet.architecture))
    with pytest.raises(UserError, match="the weights have no loss3/classifier; give weights that have one"):
        kernel.memory(KernelShape((64, 64), (32, 32)))


def test_the_length_of_a_direction_does_not_matter(inception: Loaded) -> None:
    """However large or small its numbers."""
    model = TrainedModel(architecture=inception.architecture, parameters={}, activations=lambda pixels, layer: pixels)
    first, *others = (
        resolve([{"layer": "mixed0", "direction": [unit * math.sin(i) for i in range(256)]}], inception.architecture)
        .terms[0]
        .constants(model)[0]
        for unit in (1, 1e300, 1e-300)
    )
    assert np.linalg.norm(first) == pytest.approx(1)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-6)


def test_terms_that_differ_in_structure_share_no_kernel(inception: Loaded) -> None:
    """Powers are compiled in; close ones are others."""
    vector = [1.0] * 256
    for kind in ({"direction": vector}, {"caricature": True}):
        powers = (1.5, 1.5 + 1e-9)
        structures = {
            resolve([{"layer": "mixed0", "power": power, **kind}], inception.architecture).structure for power in powers
        }
        assert len(structures) == 2


def test_weights_are_not_compiled_into_what_looks_at_a_guide(inception: Loaded) -> None:
    """They are an argument: as constants they would be kept with every program, on disk too."""
    programs = kernel_of(inception, resolve(["mixed0"], inception.architecture)).programs
    compiled = programs.activations("mixed0", (64, 80))
    weights = sum(array.nbytes for array in jax.tree.leaves(programs.state))
    analysis = compiled.memory_analysis()
    assert analysis is not None
    assert analysis.argument_size_in_bytes >= weights
    assert compiled is programs.activations("mixed0", (64, 80))


def test_every_position_belongs_to_one_tile(inception: Loaded) -> None:
    """Channel sums over any tiles add up to those over one: the choice is the same."""
    objective = resolve([{"layer": "mixed1", "strongest": 3}], inception.architecture)
    kernel = kernel_of(inception, objective)
    picture = photo(131, 212)
    sums = []
    for tile_size in (40, 64, 300):
        grid = make_grid(inception, objective, (131, 212), tile_size, "reflect")
        extended_picture, _ = extended(grid, picture, (0, 0))
        total = np.zeros(inception.architecture.layer("mixed1").channels)
        for row in range(grid.rows.tiles):
            for column in range(grid.columns.tiles):
                tile = grid.tile(row, column)
                window, core = grid.window(tile, (0, 0)), grid.core(tile)
                origin = Rect(Interval(-grid.rows.fill, 0), Interval(-grid.columns.fill, 0))
                pixels = np.ascontiguousarray(extended_picture[window.slices_from(origin)])
                total += kernel.channel_sums(KernelShape.of(grid), pixels, window, core, "mixed1")
        sums.append(total)
    np.testing.assert_allclose(sums[0], sums[2], rtol=1e-4)
    np.testing.assert_allclose(sums[1], sums[2], rtol=1e-4)


def test_the_strongest_channels_are_the_strongest() -> None:
    sums = np.array([3.0, 0.0, 9.0, 1.0, 9.0])
    assert Strongest("mixed1", 2).choose(sums) == (2, 4)
    assert Strongest("mixed1", 2, weakest=True).choose(sums) == (3, 0)
    assert Strongest("mixed1", 5, weakest=True).choose(sums) == (3, 0, 2, 4, 1)


#: All kinds but the class, which needs another network, in one objective; in another order at the second octave.
EVERY_KIND = (
    "mixed0",
    "0.5*mixed1:7+30",
    "{layer: mixed1, channels: 30, at: [0.3, 0.8]}",
    "{layer: mixed0, strongest: 4}",
    "{layer: mixed1, weakest: 3}",
    f"{{layer: mixed0, direction: {[round(math.sin(i), 3) for i in range(256)]}, power: 1}}",
    "{layer: mixed1, guide: 'sample:coffee'}",
    "{layer: mixed1, caricature: true}",
    "{layers: [mixed0, mixed1], texture: 'sample:coffee'}",
)


@pytest.mark.slow
def test_workers_and_stops_change_no_bit_of_any_objective(inception: Loaded, tmp_path: Path) -> None:
    """With the real network: one worker, several, and a run stopped within each octave."""
    words = (f"objective.terms=[[{', '.join(EVERY_KIND)}],[{', '.join(reversed(EVERY_KIND))}]]", "tiles.size=96")
    alone = Dream(tmp_path / "alone", *words)
    kernel = kernel_of(inception, *alone.objectives)
    assert {type(term) for term in alone.objectives[0].terms} | {Class} == set(KINDS)
    with chunks_of(64):
        canvas, _ = alone.run(workers=1, kernel=kernel)
        several, _ = Dream(tmp_path / "several", *words).run(workers=3, kernel=kernel)
        assert several.tobytes() == canvas.tobytes()
        stopped = Dream(tmp_path / "stopped", *words)
        for _ in range(2):
            stopped.stopped(Stop(8), workers=2, every=1e9, kernel=kernel)
            assert stopped.saved
        resumed, events = stopped.run(workers=4, kernel=kernel)
        assert sum(isinstance(event, StepDone) for event in events) < 6
        assert resumed.tobytes() == canvas.tobytes()
