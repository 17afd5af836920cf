"""Feature visualisation: pictures of channels or classes, several in one compiled call."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from render.atlas.activation import ChannelActivation
from render.atlas.channel_picture import ChannelPicture, RemoteVisualiser
from render.atlas.maco import Maco
from render.atlas.spectrum_ascent import Ascent
from render.errors import NumericalError
from render.networks.platforms import platform
from render.system import interrupts

if TYPE_CHECKING:
    from render.atlas.channel_recipe import ChannelRecipe

#: Steps that an accelerator is told ahead. Their results, two numbers for each picture, are read that much later.
_IN_FLIGHT = 16
#: Compiled step: variables of the pictures, weights, channels and random draws in; variables, activations, gradients out.
Step = Any


class Method(Protocol):
    """A way to draw pictures. States and draws are trees of arrays; everything but `step` and `pixels` runs on the host."""

    @property
    def still(self) -> Any:
        """The draw of a step at which nothing is random."""

    def start(self, channel: int) -> Any:
        """Return the state of a channel's picture before the first step."""

    def draw(self, channel: int, step: int) -> Any:
        """Return what is random in a step: the same for the same recipe, channel and step."""

    def step(self, state: Any, weights: Any, channel: jax.Array, draw: Any) -> tuple[Any, jax.Array, jax.Array]:
        """Return the state after a step, the activation before it, and the largest |gradient|; to be compiled."""

    def pixels(self, state: Any) -> jax.Array:
        """Return the picture, (size, size, 3) float32 RGB, 0..255; to be compiled."""

    def mask(self, state: Any) -> np.ndarray | None:
        """Return the picture's opacity, (size, size) uint8; None if it is opaque."""


class Visualiser(RemoteVisualiser):
    """Visualiser of the channels of a layer. One compiled step serves all of them."""

    def __init__(self, recipe: ChannelRecipe) -> None:
        self._recipe = recipe
        self._activation = ChannelActivation(recipe.loaded, recipe.layer, neuron=recipe.neuron)
        self._method: Method = (Maco if recipe.method == "maco" else Ascent)(recipe, self._activation)
        self._steps: dict[int, Step] = {}
        self._pixels = jax.jit(self._method.pixels)

    def channel_pictures(self, channels: Sequence[int], batch: int = 1) -> list[ChannelPicture]:
        """Return the pictures of channels, drawn `batch` at a time.

        Raises:
            NumericalError: if an activation or its gradient is not finite.
        """
        groups = [channels[first : first + batch] for first in range(0, len(channels), batch)]
        return [picture for group in groups for picture in self._draw(group, batch)]

    def _draw(self, channels: Sequence[int], batch: int) -> list[ChannelPicture]:
        """Draw at most `batch` channels in one sequence of compiled steps."""
        method = self._method
        # A last group that is smaller repeats a channel: another shape would have to be compiled.
        drawn = [*channels, *[channels[-1]] * (batch - len(channels))]
        indices = self._stacked([np.int32(channel) for channel in drawn])
        state = self._stacked([method.start(channel) for channel in drawn])
        first_pixels = self._rounded(state, batch) if self._recipe.classifies else []
        still = self._stacked([method.still] * batch)
        compiled = self._step(batch)
        # One more step before and after, with a still view and its update dropped, measures the activation.
        start = np.atleast_1d(compiled(state, self._activation.state, indices, still)[1])
        state, steepest = self._ascend(drawn, indices, state)
        end = np.atleast_1d(compiled(state, self._activation.state, indices, still)[1])
        pixels = self._rounded(state, batch)
        scores = [self._activation.scores(pair) for pair in zip(first_pixels, pixels, strict=False)]
        return [
            ChannelPicture(
                pixels[number], float(start[number]), float(end[number]), bool(steepest[number] > 0),
                method.mask(self._entry(state, number, batch)), tuple(scores[number]) if scores else None,
            )
            for number in range(len(channels))
        ]  # fmt: skip

    def _ascend(self, channels: Sequence[int], indices: Any, state: Any) -> tuple[Any, np.ndarray]:
        """Do all steps; return the state after them and the largest |gradient| of each picture.

        On a CPU each step is awaited. An accelerator is told many steps ahead, so that it never waits for the host.
        """
        in_flight = 0 if platform() == "cpu" else _IN_FLIGHT
        compiled, weights, count = self._step(len(channels)), self._activation.state, len(channels)
        steepest = np.zeros(count)
        waiting: deque[tuple[int, Any, Any]] = deque()
        for step in range(self._recipe.steps + in_flight):
            if step < self._recipe.steps:
                # Still on the host: the call itself brings them to the device.
                draws = self._stacked([self._method.draw(channel, step) for channel in channels], np.stack)
                state, values, gradients = compiled(state, weights, indices, draws)
                waiting.append((step, values, gradients))
            if step >= in_flight and waiting:
                done, values, gradients = waiting.popleft()
                values, gradients = np.atleast_1d(values), np.atleast_1d(gradients)
                self._check(channels, values, gradients, done)
                steepest = np.maximum(steepest, gradients)
                interrupts.check()
        return state, steepest

    def _step(self, batch: int) -> Step:
        """Return the compiled step of `batch` pictures."""
        if batch not in self._steps:
            step = self._method.step
            self._steps[batch] = jax.jit(jax.vmap(step, in_axes=(0, None, 0, 0)) if self._has_axis(batch) else step)
        return self._steps[batch]

    def _has_axis(self, batch: int) -> bool:
        """Return whether arrays of a batch have a first axis for it.

        A single ascent has none: it is then the same to the bit as that of older versions, which drew no batches. Ascents
        in batches may differ from it in the last bit of a float. MACO's pictures never depend on the batch.
        """
        return batch > 1 or self._recipe.method != "ascent"

    def _rounded(self, state: Any, batch: int) -> list[np.ndarray]:
        """Return the picture of each entry of the batch, (size, size, 3) uint8."""
        pictures = [self._pixels(self._entry(state, number, batch)) for number in range(batch)]
        return [np.rint(np.asarray(picture)).astype(np.uint8) for picture in pictures]

    def _check(self, channels: Sequence[int], values: np.ndarray, gradients: np.ndarray, step: int) -> None:
        for channel, value, gradient in zip(channels, values, gradients, strict=True):
            if not (math.isfinite(value) and math.isfinite(gradient)):
                raise NumericalError(
                    f"the activation of {self._recipe.layer}:{channel} or its gradient is not finite at step {step + 1}"
                )

    def _stacked(self, trees: Sequence[Any], stack: Callable[..., Any] = jnp.stack) -> Any:
        """Return trees of arrays as one tree, with a first axis for them if `_has_axis`.

        `stack` is `np.stack` for a tree that stays on the host.
        """
        return jax.tree.map(lambda *leaves: stack(leaves), *trees) if self._has_axis(len(trees)) else trees[0]

    def _entry(self, tree: Any, number: int, batch: int) -> Any:
        """Return one tree of those that `_stacked` has joined."""
        return jax.tree.map(lambda leaf: leaf[number], tree) if self._has_axis(batch) else tree
