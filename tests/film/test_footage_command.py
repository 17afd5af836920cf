"""The command on a real clip: what an independent reader says of the clip and of its dream agrees."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from render.__main__ import main
from tests.conftest import TINY
from tests.film.video.clips import ffprobe, write_clip

__all__ = ["ffprobe"]

#: Times of frames, ms, that are not shown equally long.
PTS = [0, 40, 80, 160, 200, 300]


def _frames(ask: Any, path: Path) -> list[Fraction]:
    shown = ask("-select_streams", "v", "-show_entries", "frame=pts_time", path)["frames"]
    return [Fraction(frame["pts_time"]) for frame in shown]


def _packets(ask: Any, path: Path) -> list[str]:
    packets = ask("-select_streams", "a", "-show_packets", "-show_data_hash", "sha256", path)["packets"]
    return [packet["data_hash"] for packet in packets]


@pytest.mark.slow
def test_dream_of_a_clip_has_its_times_sound_rotation_and_pixels(tmp_path: Path, ffprobe: Any) -> None:
    rows, columns = np.mgrid[:50, :64]
    pictures = [
        np.stack([rows * 4 % 256, (columns * 3 + number * 9) % 256, np.full(rows.shape, 90)], axis=-1).astype(np.uint8)
        for number in range(len(PTS))
    ]
    clip = write_clip(
        tmp_path / "clip.mp4", pictures, sound=True, rotation=90, pts=PTS, tags=(1, 1, 1), aspect=Fraction(4, 3)
    )
    film = tmp_path / "dream.mp4"
    words = [
        *TINY,
        f"image={clip}",
        f"output.dir={tmp_path / 'film'}",
        "film.octaves.steps=1",
        "output.width=50",
        "quiet=true",
    ]
    assert main(["film", "conf=footage", f"output.path={film}", *words]) == 0
    stream = ffprobe("-select_streams", "v", "-show_streams", film)["streams"][0]
    # Upright now: width and height are exchanged, and so is the aspect of pixels.
    assert (stream["width"], stream["height"], stream["sample_aspect_ratio"]) == (50, 64, "3:4")
    assert not any("rotation" in data for data in stream.get("side_data_list", []))
    assert (stream["color_space"], stream["color_range"]) == ("bt709", "tv")
    tick = Fraction(stream["time_base"])
    expected, times = _frames(ffprobe, clip), _frames(ffprobe, film)
    assert len(times) == len(PTS)
    assert all(abs(time - other) <= tick / 2 + Fraction(1, 500_000) for time, other in zip(times, expected, strict=True))
    sound = _packets(ffprobe, film)
    assert sound
    assert sound == _packets(ffprobe, clip)[: len(sound)]


def test_a_plan_of_footage_says_what_two_workers_may_dream_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4", [np.full((50, 64, 3), 90, np.uint8)] * 6)
    words = [*(word for word in TINY if not word.startswith("farm.")), f"image={clip}", "output.width=64"]
    assert main(["plan", "conf=footage", *words, "farm.workers=2"]) == 0
    plan = capsys.readouterr().out
    assert "frames       6 of 64 x 50 px" in plan
    assert "ahead        up to 6 frames of later shots, 19 MB (film.ahead_gb)" in plan
    assert "time         about" in plan
