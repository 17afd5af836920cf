"""A whole dream as users of TensorFlow or PyTorch write it, in a process of its own that ends with the picture saved.

The loop of the tutorials: the picture is resized to each octave, and ten times the gradient of the mean of squares of one
layer, divided by its mean magnitude, is added to it, times the step size, and the picture is clipped. Pictures whose longer
side has at most `LARGEST_WHOLE` px are differentiated as a whole, larger ones in tiles of `TILE` px without a halo, whose
grid is shifted at random in each step so that seams do not add up. The last tiles of a row and of a column are moved
inwards, so that all have one shape and nothing is traced or compiled for the others.

    python -m tests.benchmarks.tutorial_loop KIND SETTINGS.json

One of its environments has little of what this program needs: what is imported here is in all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tests.benchmarks.contender import CHANNELS_LAST, TENSORFLOW, architecture_named

#: Longest side of a picture that is differentiated as a whole, and the side of the tiles of larger ones, px.
LARGEST_WHOLE, TILE = 1024, 512


@dataclass(frozen=True)
class LoopSettings:
    """Settings of a loop.

    Attributes:
        model: Name of the network.
        layer: Layer that is dreamed.
        parameters: File of the network's parameters, .npz.
        sizes: (rows, columns) of each octave, coarse to fine, px.
        steps: Steps at each octave.
        step_size: Mean change of a pixel in a step, levels of 0..255.
        picture: File of the picture, .png.
    """

    model: str
    layer: str
    parameters: str
    sizes: Sequence[Sequence[int]]
    steps: int
    step_size: float
    picture: str

    def write(self, path: Path) -> None:
        """Write the settings to a file."""
        path.write_text(json.dumps(asdict(self)))


class Library(Protocol):
    """Functions of one library on its own arrays, (rows, columns, 3) float32."""

    def array(self, pixels: np.ndarray) -> Any:
        """Return pixels of the host as an array."""

    def resized(self, picture: Any, size: tuple[int, int]) -> Any:
        """Return a picture of `size` (rows, columns), bilinear as in the tutorials."""

    def gradient(self, picture: Any) -> Any:
        """Return d(mean of squares)/d(pixel)."""

    def tiled_gradient(self, picture: Any, corners: Sequence[tuple[int, int]], shift: tuple[int, int]) -> Any:
        """Return the gradient by tiles of a picture that is rolled by `shift`, rolled back."""

    def stepped(self, picture: Any, gradient: Any, step_size: float) -> Any:
        """Return the picture after a step."""

    def save(self, picture: Any, path: str) -> None:
        """Write a picture as PNG."""


class TensorFlowLibrary:
    """TensorFlow, with the gradient in a `tf.function`."""

    def __init__(self, settings: LoopSettings) -> None:
        import tensorflow

        from tests.benchmarks.tensorflow_network import TensorFlowKernel

        self._tf = tensorflow
        with np.load(settings.parameters) as parameters:
            self._kernel = TensorFlowKernel(architecture_named(settings.model).truncated([settings.layer]), parameters)

    def array(self, pixels: np.ndarray) -> Any:
        return self._tf.constant(pixels)

    def resized(self, picture: Any, size: tuple[int, int]) -> Any:
        return self._tf.image.resize(picture, size)

    def gradient(self, picture: Any) -> Any:
        return self._kernel.differentiate(picture)

    def tiled_gradient(self, picture: Any, corners: Sequence[tuple[int, int]], shift: tuple[int, int]) -> Any:
        rolled = self._tf.roll(picture, shift, axis=(0, 1))
        gradient = self._tf.Variable(self._tf.zeros_like(rolled))
        for top, left in corners:
            tile = (slice(top, top + TILE), slice(left, left + TILE))
            gradient[tile].assign(self.gradient(rolled[tile]))
        return self._tf.roll(gradient, (-shift[0], -shift[1]), axis=(0, 1))

    def stepped(self, picture: Any, gradient: Any, step_size: float) -> Any:
        mean = self._tf.reduce_mean(self._tf.abs(gradient))
        return self._tf.clip_by_value(picture + gradient * (step_size / mean), 0.0, 255.0)

    def save(self, picture: Any, path: str) -> None:
        rounded = self._tf.cast(self._tf.round(picture), self._tf.uint8)
        self._tf.io.write_file(path, self._tf.io.encode_png(rounded))


class TorchLibrary:
    """PyTorch, with convolutions in the layout that it recommends for CPUs."""

    def __init__(self, settings: LoopSettings) -> None:
        import torch

        from tests.benchmarks.torch_network import TorchKernel

        self._torch = torch
        with np.load(settings.parameters) as parameters:
            self._kernel = TorchKernel(
                architecture_named(settings.model).truncated([settings.layer]), parameters, channels_last=True
            )

    def array(self, pixels: np.ndarray) -> Any:
        return self._torch.from_numpy(pixels)

    def resized(self, picture: Any, size: tuple[int, int]) -> Any:
        batch = picture.permute(2, 0, 1)[None]
        resized = self._torch.nn.functional.interpolate(batch, size, mode="bilinear", align_corners=False)
        return resized[0].permute(1, 2, 0).contiguous()

    def gradient(self, picture: Any) -> Any:
        return self._kernel.differentiate(picture)

    def tiled_gradient(self, picture: Any, corners: Sequence[tuple[int, int]], shift: tuple[int, int]) -> Any:
        rolled = self._torch.roll(picture, shift, (0, 1))
        gradient = self._torch.zeros_like(rolled)
        for top, left in corners:
            tile = (slice(top, top + TILE), slice(left, left + TILE))
            gradient[tile] = self.gradient(rolled[tile].clone())
        return self._torch.roll(gradient, (-shift[0], -shift[1]), (0, 1))

    def stepped(self, picture: Any, gradient: Any, step_size: float) -> Any:
        return (picture + gradient * (step_size / gradient.abs().mean())).clamp(0, 255)

    def save(self, picture: Any, path: str) -> None:
        from PIL import Image

        Image.fromarray(picture.round().byte().numpy()).save(path)


#: Libraries by the name of the contender.
LIBRARIES = {TENSORFLOW: TensorFlowLibrary, CHANNELS_LAST: TorchLibrary}


def corners_of_tiles(size: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first row and column of each tile of a picture of `size` (rows, columns), all at least `TILE` px."""
    rows, columns = ([min(start, length - TILE) for start in range(0, length, TILE)] for length in size)
    return [(top, left) for top in rows for left in columns]


def dream(library: Library, settings: LoopSettings) -> None:
    """Dream a picture from noise, and save it."""
    random = np.random.default_rng(0)
    picture = library.array(random.uniform(100, 156, (*settings.sizes[0], 3)).astype(np.float32))
    for rows, columns in settings.sizes:
        picture = library.resized(picture, (rows, columns))
        # Octaves narrower than a tile are differentiated as a whole, too.
        corners = (
            corners_of_tiles((rows, columns)) if max(rows, columns) > LARGEST_WHOLE and min(rows, columns) > TILE else []
        )
        for _ in range(settings.steps):
            shift = (int(random.integers(TILE)), int(random.integers(TILE)))
            gradient = library.tiled_gradient(picture, corners, shift) if corners else library.gradient(picture)
            picture = library.stepped(picture, gradient, settings.step_size)
    library.save(picture, settings.picture)


if __name__ == "__main__":
    chosen = LoopSettings(**json.loads(Path(sys.argv[2]).read_text()))
    dream(LIBRARIES[sys.argv[1]](chosen), chosen)
