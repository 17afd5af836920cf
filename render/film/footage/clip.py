"""Frames of footage, as a film needs them, and where its shots begin."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

from numpy.typing import NDArray

from render.errors import UserError
from render.film.footage.cuts import mark_cuts, thumbnail
from render.film.footage.flow import grey
from render.system import interrupts


class Clip(Protocol):
    """Footage that is read frame by frame."""

    def frames(self, first: int = 0) -> Iterator[NDArray[Any]]:
        """Yield the frames from `first` on: (rows, columns, 3) sRGB, 0..255, upright, all of one size."""


class Shots:
    """First frames of the shots of a clip, searched only as far as they are asked for.

    Each frame's answer depends on the frames before it and `cuts.LOOKAHEAD` after it, so a film that is made longer keeps
    its shots.
    """

    def __init__(self, clip: Clip, *, finds_cuts: bool = True) -> None:
        """Store the clip; nothing is read. Without `finds_cuts` it is all one shot."""
        self._found: list[bool] = []
        self._lock = threading.Lock()
        self._finds_cuts = finds_cuts
        self._marks = mark_cuts(thumbnail(grey(frame)) for frame in clip.frames())

    def begins(self, number: int) -> bool:
        """Return True if a shot begins with this frame.

        Raises:
            UserError: The clip has no such frame.
        """
        if not self._finds_cuts:
            return number == 0
        # The next frame's input is prepared in a thread, which asks as well.
        with self._lock:
            while len(self._found) <= number:
                interrupts.check()
                mark = next(self._marks, None)
                if mark is None:
                    raise ends_early(number)
                self._found.append(mark)
            return self._found[number]


def ends_early(number: int) -> UserError:
    """Return the error for a frame that cannot be read."""
    return UserError(f"the footage has no frame {number}, though it should: its file is cut off, or was changed meanwhile")
