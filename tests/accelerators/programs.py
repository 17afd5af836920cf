"""Our programs, ready to be lowered for a described device: the kernel, and what runs around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from render.atlas.activation import ChannelActivation
from render.atlas.channel_recipe import ChannelRecipe
from render.atlas.spectrum_ascent import Ascent
from render.config.atlas_schema import TransformsConfig
from render.dreaming.device_resample import (
    TileTaps,
    Window,
    make_tile,
    subtract_tile,
    tile_shape,
    window_length,
    write_tile,
)
from render.dreaming.executables import Build
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.optimizer import Optimizer
from render.dreaming.programs import Programs
from render.dreaming.resident import BatchSpec, apply_update, compile_gradient, cut_windows, store_gradients
from render.dreaming.resident_steps import TileArrays, UpdateNumbers, UpdateSpec, filter_tile, level_rows, step_tile
from render.dreaming.term_syntax import NoMaterials, Picture
from render.farm.worker.device_change import DETAIL_STEPS, SOURCE_STEPS
from render.geometry.geometry import KernelShape
from render.networks.architecture import Architecture
from render.networks.network import Network, separated
from render.networks.weights import MODELS, Loaded
from tests.accelerators.requests import Request

#: A jitted function, and the arguments to lower it for.
Built = tuple[Any, tuple[Any, ...]]
#: Pixels around the windows on the canvas of a resident step.
_AROUND = 256
#: Positions of a guide's features.
_FEATURES = 64


def built(request: Request) -> Built:
    """Return the program that a request names."""
    return BUILDERS[request.program](request)


class _Uncompiled(Programs):
    """Programs that are kept as they are, with their arguments, instead of being compiled for this machine."""

    def program(self, key: object, build: Build) -> Any:
        return build()


def _programs(request: Request) -> Programs:
    """Return the programs of the network up to the layer, with weights of zeros."""
    part = MODELS[request.model].architecture.truncated([request.layer])
    return _Uncompiled(Network(part, _zeros(part), precision=request.precision), jax.local_devices()[:1])


def _zeros(architecture: Architecture) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in architecture.parameters().items()}


def _shape(request: Request) -> KernelShape:
    core = request.core or request.side
    return KernelShape((request.side, request.side), (core, core))


def _gradient(request: Request) -> Any:
    """The kernel that dreams of a whole layer."""
    architecture = MODELS[request.model].architecture
    loaded = Loaded(architecture, _zeros(architecture), "")
    kernel = Kernel(_programs(request), [resolve([request.layer], architecture)], loaded)
    return compile_gradient(kernel, KernelInputs(0, (1.0,)), BatchSpec(_shape(request), request.windows))


def _terms(request: Request) -> Any:
    """The kernel of terms that multiply by something: a guide, a direction, some channels, a texture."""
    architecture = MODELS[request.model].architecture
    layer = architecture.layer(request.layer)
    ones = [1.0] * layer.channels
    written = [
        {"layer": layer.name, "guide": "guide.png"},
        {"layer": layer.name, "direction": ones},
        {"layer": layer.name, "strongest": 4},
        {"layer": layer.name, "texture": "texture.png"},
    ]
    objective = resolve(written, architecture, _Pictures())
    vector, matrix = _floats(layer.channels), _floats(layer.channels, layer.channels)
    constants = [(_floats(_FEATURES, layer.channels),), (vector,), (vector,), (matrix,)]
    return _programs(request).gradient(objective, constants, _shape(request))


class _Pictures(NoMaterials):
    """Materials whose every picture is black."""

    def picture(self, path: str) -> Picture:
        return Picture(np.zeros((256, 256, 3), np.float32), path)

    texture = picture


def _sums(request: Request) -> Any:
    return _programs(request).sums(request.layer, _shape(request))


def _grams(request: Request) -> Any:
    return _programs(request).grams((request.layer,), _shape(request).window)


def _logits(request: Request) -> Any:
    """The class scores of a picture; the layer does not matter."""
    architecture = MODELS[request.model].architecture
    state, merged = separated(Network(architecture, _zeros(architecture), precision=request.precision))
    return jax.jit(lambda state, pixels: merged(state).logits(pixels)), (state, _floats(request.side, request.side, 3))


def _canvas(request: Request) -> jax.ShapeDtypeStruct:
    return _floats(request.side + _AROUND, request.side + _AROUND, 3)


def _floats(*sides: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sides, jnp.float32)


def _positions(request: Request) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((request.windows, 5, 2), jnp.int32)


def _cut(request: Request) -> Built:
    spec = BatchSpec(_shape(request), request.windows)
    return _Bound(cut_windows, spec=spec), (_canvas(request), _positions(request))


def _store(request: Request) -> Built:
    shape = _shape(request)
    spec = BatchSpec(shape, request.windows)
    first = (request.windows,) if request.windows > 1 else ()
    return _Bound(store_gradients, spec=spec), (_canvas(request), _floats(*first, *shape.core, 3), _positions(request))


def _update(request: Request) -> Built:
    block = (request.side, request.side)
    arguments = (_canvas(request), _canvas(request), jax.ShapeDtypeStruct((), jnp.float32))
    return _Bound(apply_update, corner=(0, 0), shape=block), arguments


def _ascent(request: Request) -> Built:
    """A step of an atlas' picture; the gradient of its view is a scatter."""
    architecture = MODELS[request.model].architecture
    recipe = ChannelRecipe(
        Loaded(architecture, _zeros(architecture), ""), request.layer, neuron=False, size=request.side, steps=1, rate=0.05,
        transforms=TransformsConfig(), seed=0,
    )  # fmt: skip
    activation = ChannelActivation(recipe.loaded, recipe.layer)
    ascent = Ascent(recipe, activation)
    return jax.jit(ascent.step), (ascent.start(0), activation.state, np.int32(0), ascent.draw(0, 0))


def _filter_spec(request: Request) -> UpdateSpec:
    """The looks' pyramid."""
    return UpdateSpec(_shape(request).core, laplacian=4)


def _levels(request: Request) -> Built:
    spec = _filter_spec(request)
    part = _floats(*spec.filter_extent.shape, 3)
    return _Bound(level_rows, spec=spec), (part, _floats(*spec.core), jax.ShapeDtypeStruct((2, 2), jnp.int32))


def _filter(request: Request) -> Built:
    spec = _filter_spec(request)
    _, (part, mask, place) = _levels(request)
    return _Bound(filter_tile, spec=spec), (part, mask, place, _floats(spec.laplacian + 1))


def _cascade(request: Request) -> Built:
    spec = UpdateSpec(_shape(request).core, smoothing=3.0)
    part, place = _floats(*spec.filter_extent.shape, 3), jax.ShapeDtypeStruct((2, 2), jnp.int32)
    return _Bound(filter_tile, spec=spec), (part, _floats(*spec.core), place, _floats(0))


def _step(request: Request) -> Built:
    """The update of two regions with all that a stage can ask for."""
    spec = UpdateSpec(_shape(request).core, decorrelate=1.0, total_variation=True, pull=True, optimizer=Optimizer("adam"))
    core, mask = _floats(*spec.core, 3), _floats(*spec.core)
    canvas = _floats(*(side + 2 for side in spec.core), 3)
    one = jax.ShapeDtypeStruct((), jnp.float32)
    numbers = UpdateNumbers(one, one, one, _floats(2), jax.ShapeDtypeStruct((), jnp.int32))
    return _Bound(step_tile, spec=spec), ([core, core], TileArrays((core, core), (mask, mask), canvas, core), numbers)


#: (rows, columns) px of the canvas of the octave before that a tile depends on, and of the source's samples: a scale of
#: 1.4, and a source half as large as the canvas.
TILE_INPUTS = (738, 1469), (519, 1031)
_TAPS = 6


def _window(inputs: tuple[int, int], steps: int) -> Window:
    """Return the window of a tile, from so many inputs."""
    tile = tile_shape()
    lengths = [window_length(length, side, steps) for length, side in zip(inputs, tile, strict=True)]
    indices, weights = ([jax.ShapeDtypeStruct((side, _TAPS), dtype) for side in tile] for dtype in (jnp.int32, jnp.float32))
    return Window(_floats(*lengths, 3), TileTaps(indices[0], weights[0], indices[1], weights[1]))


def _tile(_: Request) -> Built:
    """A tile of a new octave: the source and the detail of the octave before, both resampled."""
    detail, source = TILE_INPUTS
    return make_tile, (_window(source, SOURCE_STEPS), _window(detail, DETAIL_STEPS))


def _write(request: Request) -> Built:
    return write_tile, _merged(request)


def _subtract(request: Request) -> Built:
    return subtract_tile, _merged(request)


def _merged(request: Request) -> tuple[jax.ShapeDtypeStruct, ...]:
    """A canvas of eight windows a side, a tile, and its place."""
    return (
        _floats(8 * request.side, 8 * request.side, 3),
        _floats(*tile_shape(), 3),
        jax.ShapeDtypeStruct((2, 2), jnp.int32),
    )


class _Bound:
    """A jitted function with its static arguments."""

    def __init__(self, function: Any, **static: Any) -> None:
        self._function, self._static = function, static

    def lower(self, *arguments: Any) -> Any:
        """Lower it for arguments."""
        return self._function.lower(*arguments, **self._static)


#: What can be compiled, by the names that `Request.program` takes.
BUILDERS: dict[str, Callable[[Request], Any]] = {
    "gradient": _gradient, "terms": _terms, "sums": _sums, "grams": _grams, "logits": _logits,
    "ascent": _ascent, "cut": _cut, "store": _store, "update": _update,
    "levels": _levels, "filter": _filter, "cascade": _cascade, "step": _step,
    "tile": _tile, "write": _write, "subtract": _subtract,
}  # fmt: skip
