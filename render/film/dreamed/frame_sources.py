"""Sources of a film's later frames, from the motion, the canvas before, and how the film ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from render.dreaming.stage import Stage
from render.film.dreamed.camera import Camera
from render.film.dreamed.canvases import FrameCanvas
from render.film.dreamed.colours import ChannelSpread, held_shift
from render.film.dreamed.timeline import FrameSettings
from render.geometry.geometry import AxisMode
from render.source.warped import FrameSource, WarpedCanvas

#: Purposes of random numbers that a frame draws, as keys beside the film's seed.
_JITTER, _NOISE = 1, 2


@dataclass(frozen=True)
class LoopEnd:
    """The last frames of a loop, in which the first frame is blended in as it would look before the film begins.

    Attributes:
        frames: Frames of the whole film. The one after the last is the first.
        blended: Number of frames before the end in which it happens.
    """

    frames: int
    blended: int

    def left(self, frame: int) -> int | None:
        """Return how many frames come until the first, at least 1; None before the end begins."""
        left = self.frames - frame
        return left if 1 <= left <= self.blended else None

    def rest(self, frame: int) -> float:
        """Return the share of the film's own course that a frame has: 1 before the end, 0 at the last frame."""
        left = self.left(frame)
        return 1.0 if left is None else (left - 1) / self.blended


@dataclass(frozen=True)
class FrameSources:
    """Maker of the sources of a film's frames.

    Attributes:
        camera: Maps between the frames.
        shape: (rows, columns) px of every frame's canvas.
        modes: Behaviour of rows and columns beyond the ends.
        picture_detail: Pixels of the picture to one of the canvas, along an axis.
        noise_seed: Seed of the noise at the edges; None for none.
        loop: End of a loop; None if the film is none.
    """

    camera: Camera
    shape: tuple[int, int]
    modes: tuple[AxisMode, AxisMode]
    picture_detail: float
    noise_seed: int | None = None
    loop: LoopEnd | None = None

    def source(
        self,
        frame: int,
        settings: FrameSettings,
        before: FrameCanvas,
        spreads: tuple[ChannelSpread, ChannelSpread],
        first: FrameCanvas | None,
    ) -> FrameSource:
        """Return the source of a frame, from 1 on.

        Args:
            frame: Its number.
            settings: Its settings.
            before: Canvas of the frame before.
            spreads: Colours of that canvas, and of the first frame.
            first: Canvas of the first frame; needed at the end of a loop.
        """
        to_first = self.camera.to_first(frame)
        source = FrameSource(
            canvas=WarpedCanvas(before.path, before.token, self.shape, self.camera.to_previous(frame)),
            modes=self.modes,
            colours=held_shift(*spreads, settings.hold),
            # A picture that is magnified beyond its own pixels has nothing to show there.
            fade=settings.fade * min(1.0, to_first.scale * self.picture_detail),
            to_picture=to_first,
            picture_detail=self.picture_detail,
            noise=None if self.noise_seed is None else frame_number(self.noise_seed, 0, _NOISE),
        )
        left = None if self.loop is None else self.loop.left(frame)
        if self.loop is None or left is None:
            return source
        assert first is not None, "a loop ends at its first frame"
        seen = WarpedCanvas(first.path, first.token, self.shape, self.camera.to_later(frame, self.loop.frames))
        # One part in `left` of every frame: together, an even cross-fade.
        return replace(source, fade=source.fade * self.loop.rest(frame), ending=(seen, 1.0 / left))

    def stages(self, frame: int, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Return a frame's stages, whose steps become small towards the end of a loop."""
        rest = 1.0 if self.loop is None else self.loop.rest(frame)
        if rest == 1:
            return stages
        return tuple(replace(stage, steps=stage.steps if rest else 0, step_size=stage.step_size * rest) for stage in stages)


def frame_seed(seed: int, frame: int) -> int:
    """Return the seed of a frame's jitter; the first frame has the film's own, as a picture has."""
    return seed if frame == 0 else frame_number(seed, frame, _JITTER)


def frame_number(seed: int, frame: int, purpose: int) -> int:
    """Return a random number for a frame, 0 to 2^63 - 1, the same in every process.

    Drawn from Philox, a counter-based generator (Salmon 2011).
    """
    return int(np.random.Philox(key=[seed, purpose], counter=[frame, 0, 0, 0]).random_raw() >> np.uint64(1))
