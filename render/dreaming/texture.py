"""Texture of another picture, as the Gram matrix of a layer over the whole canvas.

JAX is imported only where it computes: planning and the conductor work without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from render.dreaming.gram import measuring_grid
from render.dreaming.resample import Pixels, resample
from render.dreaming.term_base import Term, TrainedModel, Vector, file_name
from render.errors import UserError
from render.geometry.geometry import Axis, Grid, Rect, boundary_runs
from render.networks.architecture import Architecture, Layer

if TYPE_CHECKING:
    import jax

#: Pixels by which a texture is continued beyond its edges, so that the network's padding is not measured.
_FILL = 32


@dataclass(frozen=True)
class Texture(Term):
    """Closeness of the canvas' Gram matrix G of the layer to the matrix T of another picture.

    The value is -|G - T|^2 / |T|^2, with Frobenius norms: the squared difference of Gatys, Ecker and Bethge (2015),
    relative to the picture's own matrix, so that layers of different strength weigh alike. It is a function of sums over
    the whole canvas. So each step adds these up in a pass of its own, and then one matrix gives all windows their gradient.

    The sums are over the activations that are centred inside the canvas.

    Attributes:
        image: Path of the picture.
        sha256: Checksum of its file.
        pixels: (rows, columns, 3) float32 RGB, 0..255.
        scale: Long side of the picture over that of the canvas.
    """

    kind = "texture"
    about = "the texture of another picture: texture: its path; layers: several; scale: its size, 1: as the canvas"
    examples = (
        "{layer: mixed2, texture: brick.png}",
        "{layers: [mixed0, mixed2], texture: brick.png, scale: 0.5}",
    )
    needs_canvas_sums = True

    image: str
    sha256: str
    pixels: Vector = field(compare=False, repr=False)
    scale: float = 1.0

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Raise `UserError` if no activation of the layer would see the texture alone."""
        height, width = self.pixels.shape[:2]
        if min(height, width) < layer.receptive_field:
            raise UserError(
                f"texture {self.image} is {width} x {height} px and {layer.name} of {architecture.name} needs "
                f"{layer.receptive_field} px a side: take a larger picture or a shallower layer"
            )

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:
        """Return a placeholder for the step's matrix, (channels, channels): see `ascent_matrix`."""
        channels = model.architecture.layer(self.layer).channels
        return (np.zeros((channels, channels), np.float32),)

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:
        """Return the sum of a * M * a over the activations a inside the canvas, whose gradient is that of the term.

        M is the step's matrix. `place` has the first row and the stop, and the same for columns: see `gram.span_inside`.
        """
        import jax
        import jax.numpy as jnp

        rows, columns = (
            (jnp.arange(size) >= span[0]) & (jnp.arange(size) < span[1])
            for size, span in zip(activations.shape[:2], place, strict=True)
        )
        # Differences of matrices are small beside them: 8 bits of mantissa would not do.
        products = jnp.matmul(activations, constants[0], precision=jax.lax.Precision.HIGHEST)
        values = (activations * products).sum(-1)
        return jnp.where(rows[:, None] & columns[None, :], values, 0.0).sum()

    def ascent_matrix(self, gram: NDArray[np.float64], weight: float, target: NDArray[np.float64]) -> Vector:
        """Return the matrix M of a step: with it, `total` has the gradient of the term's value.

        By an activation a that counts with weight 1 that is -4 / (weight * |T|^2) * (G - T) a.

        Args:
            gram: Matrix G of the canvas.
            weight: Number of positions that it is the mean over, or the sum of their weights.
            target: Matrix T of the picture.

        Returns:
            (channels, channels) float32, symmetric; 0 if no position counts.
        """
        size = float(np.square(target).sum())
        if weight == 0 or size == 0:
            return np.zeros(gram.shape, np.float32)
        return (-2 / (weight * size) * (gram - target)).astype(np.float32)

    def shown_shape(self, canvas: tuple[int, int], layer: Layer) -> tuple[int, int]:
        """Return the (rows, columns) of the picture beside an octave's canvas, px.

        Its long side is `scale` times that of the canvas. But it is never enlarged, as blur would be measured, nor shrunk
        so far that its short side is below the receptive field, as little but its edges would be measured.

        Args:
            canvas: (rows, columns) of the octave's canvas, px.
            layer: The layer.
        """
        height, width = self.pixels.shape[:2]
        factor = self.scale * max(canvas) / max(height, width)
        factor = min(1.0, max(factor, layer.receptive_field / min(height, width)))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def grid(self, canvas: Grid, layer: Layer) -> Grid:
        """Return the grid in which the picture is measured at an octave: its tiles are as large as the canvas'."""
        axes = [
            Axis(side, axis.core_size, axis.halo, _FILL, axis.stride, "reflect")
            for side, axis in zip(self.shown_shape(canvas.canvas.shape, layer), (canvas.rows, canvas.columns), strict=True)
        ]
        return measuring_grid(Grid(*axes), [layer])

    def window(self, grid: Grid, rect: Rect) -> Pixels:
        """Return the picture's pixels in a rectangle of extended coordinates of `grid`: (rows, columns, 3) float32."""
        pixels = np.empty((*rect.shape, 3), np.float32)
        for rows in boundary_runs(rect.rows, grid.rows.length, grid.rows.mode):
            for columns in boundary_runs(rect.columns, grid.columns.length, grid.columns.mode):
                part = self._shown(grid.canvas.shape, Rect(rows.source, columns.source))
                flipped = part[:: -1 if rows.reversed else 1, :: -1 if columns.reversed else 1]
                pixels[Rect(rows.target, columns.target).slices_from(rect)] = flipped
        return pixels

    def _shown(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        size = (self.pixels.shape[0], self.pixels.shape[1])
        shown = resample(lambda part: self.pixels[slice(*part.rows), slice(*part.columns)], size, shape, rect)
        return np.clip(shown, 0.0, 255.0)

    def _config_keys(self) -> dict[str, Any]:
        scale = {"scale": self.scale} if self.scale != 1 else {}
        return {"layer": self.layer, "texture": file_name(self.image), **scale}
