"""Clips that tests read: made of arrays, with PyAV."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support.debian_packages import NotInstalled, install

#: (rows, columns) px of clips.
SHAPE = (96, 128)


def pictures(count: int, bits: int = 8, shape: tuple[int, int] = SHAPE) -> Iterator[np.ndarray]:
    """Yield moving gradients, each frame unlike the others."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for number in range(count):
        values = np.stack([rows * 2 + number * 5, columns + number * 3, rows + columns + number], -1) % 256
        yield values.astype(np.uint8) if bits == 8 else (values * 257).astype(np.uint16)


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: int = 25,
    sound: bool = False,
    rotation: int = 0,
    pts: Sequence[int] | None = None,
    tags: tuple[int, int, int] | None = None,
    options: dict[str, str] | None = None,
    codec: str = "libx264",
    codec_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Write a clip; `pts` are in milliseconds, `tags` H.273's primaries, transfer and matrix."""
    frames = list(frames)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=rate)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.options = codec_options or {}
        video.codec_context.time_base = Fraction(1, 1000) if pts else Fraction(1, rate)
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation:
            video.set_display_rotation(rotation)
        if tags:
            context = video.codec_context
            context.color_primaries, context.color_trc, context.colorspace = tags
        voice = container.add_stream("aac", rate=48_000) if sound else None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = pts[number] if pts else number
            frame.time_base = video.codec_context.time_base
            container.mux(video.encode(frame))
            if voice is not None:
                noise = np.random.default_rng(number).standard_normal((1, 48_000 // rate)).astype(np.float32) * 0.1
                samples = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
                samples.sample_rate, samples.pts = 48_000, number * (48_000 // rate)
                container.mux(voice.encode(samples))
        container.mux(video.encode(None))
        if voice is not None:
            container.mux(voice.encode(None))
    return path


@pytest.fixture(scope="session")
def ffprobe() -> Any:
    """Return a function that asks Debian's ffprobe, which is built from other sources than PyAV's libraries."""
    try:
        install(["ffmpeg"], ["ffmpeg", "ffprobe"])
    except NotInstalled as reason:
        pytest.skip(str(reason))

    def ask(*words: str | Path) -> dict[str, Any]:
        done = subprocess.run(
            ["ffprobe", "-v", "error", "-of", "json", *map(str, words)], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return ask
