"""Optimisers: what a step adds, from this step's gradient and from those before it, pixel by pixel (optax).

All of them are elementwise, so that tiles need nothing of each other: the moments of a tile's pixels lie beside its canvas.
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

    #: Gradient, moments and steps done to the direction and the new moments.
    Compiled = Callable[[jax.Array, list[jax.Array], jax.Array], tuple[jax.Array, list[jax.Array]]]

#: How many moments each keeps.
MOMENTS = {"none": 0, "momentum": 1, "adam": 2}
#: What Adam adds to the root of the second moment. Gradients have a mean size of 1: those of a thousandth are noise, and
#: are not made as large as the rest.
_EPSILON = 1e-3


@dataclass(frozen=True)
class Optimizer:
    """`none`: the gradient itself; `momentum`: its moving average; `adam`: that over the root of its moving square.

    `momentum` is the decay of the moving average, `decay` that of the square, a step. All averages are corrected for their
    start at zero, so that momentum's directions are as large as gradients are, and `step_size` keeps its meaning; Adam's
    are about 1 in size wherever the gradient keeps its sign, however small it is.
    """

    name: str = "none"
    momentum: float = 0.9
    decay: float = 0.999

    @property
    def moments(self) -> int:
        """How many arrays of the canvas' shape it keeps from step to step, zero before an octave's first."""
        return MOMENTS[self.name]

    def update(
        self, gradient: NDArray[np.float32], moments: Sequence[NDArray[np.float32]], count: int
    ) -> NDArray[np.float32]:
        """The direction to add, times the step size, for a tile's gradient of ascent: (rows, columns, 3) float32.

        The gradient is normalised to a mean size of 1 over the canvas. `moments` are the tile's parts of the arrays kept,
        and are updated in place; `count` steps were done before at this octave. What comes out depends on these alone, and
        is the same to the bit for tiles of one shape. It may be read-only, or the gradient itself.
        """
        if len(moments) != self.moments:
            raise ValueError(f"{self.name} keeps {self.moments} moments, not {len(moments)}")
        if not moments:
            return gradient
        import jax.numpy as jnp

        # The count as an array: as a number it would be compiled anew each step.
        direction, new = _compiled(self)(
            jnp.asarray(gradient), [jnp.asarray(moment) for moment in moments], jnp.asarray(count, jnp.int32)
        )
        # All of it is computed before anything is written: on a CPU JAX may read the very memory it was given.
        computed = [np.asarray(moment) for moment in new]
        result = np.asarray(direction)
        for moment, values in zip(moments, computed, strict=True):
            moment[...] = values
        return result


@cache
def _compiled(optimizer: Optimizer) -> Compiled:
    # Imported where they are needed: drivers read this module and never load JAX.
    import jax
    import optax

    if optimizer.name == "momentum":
        average = optax.ema(optimizer.momentum, debias=True)

        def step(gradient: jax.Array, moments: list[jax.Array], count: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
            direction, state = average.update(gradient, optax.EmaState(count=count, ema=moments[0]))
            return direction, [state.ema]
    else:
        adam = optax.scale_by_adam(b1=optimizer.momentum, b2=optimizer.decay, eps=_EPSILON)

        def step(gradient: jax.Array, moments: list[jax.Array], count: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
            direction, state = adam.update(gradient, optax.ScaleByAdamState(count=count, mu=moments[0], nu=moments[1]))
            return direction, [state.mu, state.nu]

    return jax.jit(step)
