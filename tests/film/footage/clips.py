"""Clips with known motion, made from sample photos."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from render.config.schema import SourceConfig
from render.film.footage.flow import bilinear
from render.source.photo import read_photo
from render.source.source import sample_path

#: A frame: (rows, columns, 3) uint8.
Frame = NDArray[np.uint8]


def photo(name: str) -> NDArray[np.float32]:
    """Return a sample photo: (rows, columns, 3) float32, 0..255."""
    return np.asarray(read_photo(sample_path(name), SourceConfig())[..., :3], np.float32)


def view(
    picture: NDArray[np.float32],
    shape: tuple[int, int],
    shift: tuple[float, float] = (0.0, 0.0),
    turn: float = 0.0,
    zoom: float = 1.0,
) -> Frame:
    """Return a frame that shows the middle of a picture, moved by `shift` (down, right) px, turned by `turn` degrees."""
    rows = np.arange(shape[0])[:, None] - (shape[0] - 1) / 2
    columns = np.arange(shape[1])[None, :] - (shape[1] - 1) / 2
    sine, cosine = math.sin(math.radians(turn)), math.cos(math.radians(turn))
    source_rows = (cosine * rows - sine * columns) / zoom + shift[0] + (picture.shape[0] - 1) / 2
    source_columns = (sine * rows + cosine * columns) / zoom + shift[1] + (picture.shape[1] - 1) / 2
    return np.rint(bilinear(picture, source_rows, source_columns)).astype(np.uint8)


def pan(picture: NDArray[np.float32], shape: tuple[int, int], count: int, speed: tuple[float, float]) -> list[Frame]:
    """Return a clip whose camera moves by `speed` (down, right) px a frame."""
    return [view(picture, shape, (speed[0] * number, speed[1] * number)) for number in range(count)]


def turning(picture: NDArray[np.float32], shape: tuple[int, int], count: int, speed: float) -> list[Frame]:
    """Return a clip whose camera turns by `speed` degrees a frame."""
    return [view(picture, shape, turn=speed * number) for number in range(count)]


def passing(
    background: NDArray[np.float32], thing: NDArray[np.float32], shape: tuple[int, int], count: int, speed: float
) -> list[Frame]:
    """Return a clip in which a disc that shows `thing` passes over a still background by `speed` px a frame."""
    return [
        np.where(disc(shape, number, speed)[..., None], _on_disc(thing, shape, number, speed), view(background, shape))
        for number in range(count)
    ]


def disc(shape: tuple[int, int], number: int, speed: float) -> NDArray[np.bool_]:
    """Return the pixels of the disc in a frame of `passing`."""
    rows = np.arange(shape[0])[:, None] - shape[0] / 2
    columns = np.arange(shape[1])[None, :] - _middle(shape, number, speed)
    return np.hypot(rows, columns) < shape[0] / 4


def _middle(shape: tuple[int, int], number: int, speed: float) -> float:
    return shape[1] / 4 + speed * number


def _on_disc(thing: NDArray[np.float32], shape: tuple[int, int], number: int, speed: float) -> Frame:
    return view(thing, shape, (0.0, shape[1] / 2 - _middle(shape, number, speed)))
