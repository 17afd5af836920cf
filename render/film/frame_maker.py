"""Interface between what makes the frames of a film and what writes them into a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class MadeFrame(Protocol):
    """A frame that has been made, and can be written as often as needed until the next one is asked for."""

    @property
    def number(self) -> int:
        """Number of the frame, from 0."""

    def write(self, path: Path) -> None:
        """Write the frame's picture as a lossless PNG, atomically; raise `UserError` if that fails."""


class FrameMaker(Protocol):
    """Maker of a film's frames, in order. What a frame needs of earlier ones it keeps on disk by itself."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px of every frame, both even."""

    def make(self, first: int, last: int) -> Iterator[MadeFrame]:
        """Yield the frames from `first` to before `last`.

        All frames before `first` were made by a maker of the same film, perhaps in a process that was killed. The pixels of
        a frame do not depend on where the film was interrupted, nor on `last`.

        Raises:
            UserError: What an earlier frame left on disk is gone or damaged; the message says what to do.
        """
