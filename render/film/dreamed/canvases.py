"""Canvases of a film's newest frames: checkpoints in a directory for each frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from render.canvas.store import CanvasStore
from render.errors import UserError
from render.farm.checkpoint import Checkpoints, ResumeKey
from render.geometry.geometry import CHUNK, PIXEL_BYTES
from render.planning.plan import Octave
from render.storage.opening import open_storage
from render.storage.url import Place, joined

_FRAME_NAME = re.compile(r"\d{6,9}")


class FrameCanvas(NamedTuple):
    """Finished canvas of a frame: its place, absolute, and its token."""

    path: Place
    token: str

    def open(self) -> CanvasStore:
        """Return the canvas, to be read; raise `DamagedCheckpoint` if it cannot be."""
        return CanvasStore(self.path, self.token)


class FrameCanvases:
    """The canvases of a film's frames that are on disk."""

    def __init__(self, place: Place, digest: str, confirm: Callable[[], None] = lambda: None) -> None:
        """Store the settings; nothing is read.

        Args:
            place: Path or URL of their directory.
            digest: Digest of the film, which every canvas was saved with.
            confirm: Raises if another process has taken the film over.
        """
        self.place = place
        self._digest = digest
        self._confirm = confirm

    def checkpoints(self, frame: int) -> Checkpoints:
        """Return the checkpoints of a frame."""
        return Checkpoints(joined(self.place, f"{frame:06}"), self._confirm)

    def frames(self) -> list[int]:
        """Return the numbers of the frames that have a directory, in order."""
        return sorted(
            int(name) for name in open_storage(self.place, patient=True).children() if _FRAME_NAME.fullmatch(name)
        )

    def resume_key(self, frame: int) -> ResumeKey | None:
        """Return the values that a frame was saved with; None if it was not saved.

        Raises:
            UserError: The checkpoint cannot be read, or is another film's.
        """
        manifest = self.checkpoints(frame).read()
        if manifest is None or not manifest.checkpoints:
            return None
        if manifest.resume_key.digest != self._digest:
            raise UserError(f"{joined(self.place, f'{frame:06}')} is a canvas of another film: fresh=true starts over")
        return manifest.resume_key

    def finished(self, frame: int, octaves: Sequence[Octave]) -> FrameCanvas | None:
        """Return the canvas of a frame whose octaves are done; None if they are not, or it is not on disk."""
        if self.resume_key(frame) is None:
            return None
        checkpoints = self.checkpoints(frame)
        manifest = checkpoints.read()
        newest = manifest.checkpoints[0] if manifest else None
        if newest is None or (newest.octave, newest.steps) != (octaves[-1].index, octaves[-1].steps):
            return None
        return FrameCanvas(checkpoints.path(newest), newest.token)

    def remove_before(self, frame: int, *, but: int | None = None) -> None:
        """Remove the canvases of all frames before one, except `but`."""
        for number in self.frames():
            if number < frame and number != but:
                self.checkpoints(number).discard()

    def remove_from(self, frame: int) -> None:
        """Remove the canvases of a frame and all after it."""
        for number in self.frames():
            if number >= frame:
                self.checkpoints(number).discard()


def canvas_bytes(shape: tuple[int, int]) -> int:
    """Return the disk that the canvas of a frame of (rows, columns) px takes, bytes: whole chunks."""
    rows, columns = (-(-length // CHUNK) * CHUNK for length in shape)
    return rows * columns * PIXEL_BYTES
