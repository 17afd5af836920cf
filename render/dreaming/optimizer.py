"""Optimizers: the direction of a step from this step's gradient and earlier ones, pixel by pixel (optax).

All of them are elementwise, so tiles need nothing from each other: the moments of a tile's pixels lie beside its
canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import jax

    #: Function of the gradient, the moments and the number of steps so far; returns the direction and the new moments.
    Compiled = Callable[[jax.Array, list[jax.Array], jax.Array], tuple[jax.Array, list[jax.Array]]]

#: Number of moments that each optimizer stores.
MOMENTS = {"none": 0, "momentum": 1, "adam": 2}
#: Term that Adam adds to the root of the second moment. Gradients have a mean size of 1: gradients of a thousandth are
#: noise, and this keeps them from being scaled up to the size of the others.
_EPSILON = 1e-3


@dataclass(frozen=True)
class Optimizer:
    """Rule that turns gradients into directions, with its settings.

    All averages are corrected for their start at zero, so momentum's directions are as large as gradients and `step_size`
    keeps its meaning. Adam's directions are about 1 wherever the gradient keeps its sign, however small it is.

    Attributes:
        name: `none` for the gradient itself, `momentum` for its moving average, `adam` for the moving average over the root
            of that of the squares (Kingma and Ba 2014).
        momentum: Decay per step of the average of gradients, 0..1.
        decay: Decay per step of the average of squares, 0..1.
    """

    name: str = "none"
    momentum: float = 0.9
    decay: float = 0.999

    @property
    def moments(self) -> int:
        """Number of arrays of the canvas' shape that are stored between steps.

        They are zero when an octave begins.
        """
        return MOMENTS[self.name]

    def update(
        self, gradient: NDArray[np.float32], moments: Sequence[NDArray[np.float32]], count: int
    ) -> NDArray[np.float32]:
        """Return the direction of ascent for a tile, to be added times the step size.

        The result depends on the arguments alone, and is the same to the bit for tiles of one shape. It may be
        read-only, or the gradient itself.

        Args:
            gradient: (rows, columns, 3) float32, normalised to a mean size of 1 over the canvas.
            moments: The tile's parts of the stored arrays; they are updated in place.
            count: The number of steps so far at this octave.

        Returns:
            (rows, columns, 3) float32.

        Raises:
            ValueError: The number of moments is not that of the optimizer.
        """
        if len(moments) != self.moments:
            raise ValueError(f"{self.name} keeps {self.moments} moments, not {len(moments)}")
        if not moments:
            return gradient
        import jax.numpy as jnp

        # The count is an array: a Python number would be compiled anew at each step.
        direction, new = _compiled(self)(
            jnp.asarray(gradient), [jnp.asarray(moment) for moment in moments], jnp.asarray(count, jnp.int32)
        )
        # Compute everything before writing: on a CPU JAX may read the memory of `moments` itself.
        computed = [np.asarray(moment) for moment in new]
        result = np.asarray(direction)
        for moment, values in zip(moments, computed, strict=True):
            moment[...] = values
        return result

    def traced_update(
        self, gradient: jax.Array, moments: Sequence[jax.Array], count: jax.Array
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Return the direction and the new moments as `update` does, inside of a program that is traced.

        Args:
            gradient: As for `update`.
            moments: As for `update`; they stay as they are.
            count: As for `update`, int32.
        """
        return _compiled(self)(gradient, list(moments), count) if moments else (gradient, [])


@cache
def _compiled(optimizer: Optimizer) -> Compiled:
    """Return the compiled update of an optimizer that stores moments."""
    # Imported here because drivers import this module and never load JAX.
    import jax
    import optax

    if optimizer.name == "momentum":
        average = optax.ema(optimizer.momentum, debias=True)

        def step(gradient: jax.Array, moments: list[jax.Array], count: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
            """Return the moving average of the gradients."""
            direction, state = average.update(gradient, optax.EmaState(count=count, ema=moments[0]))
            return direction, [state.ema]
    else:
        adam = optax.scale_by_adam(b1=optimizer.momentum, b2=optimizer.decay, eps=_EPSILON)

        def step(gradient: jax.Array, moments: list[jax.Array], count: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
            """Return the moving average over the root of that of the squares."""
            direction, state = adam.update(gradient, optax.ScaleByAdamState(count=count, mu=moments[0], nu=moments[1]))
            return direction, [state.mu, state.nu]

    return jax.jit(step)
