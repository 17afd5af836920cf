"""The benchmark of whole jobs: real ones, of the least size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.__main__ import main, words_of_make
from tests.benchmarks.job import COLD, PARTS, WARM, measure, split
from tests.benchmarks.tutorial_loop import TILE, LoopSettings, corners_of_tiles, dream

LOG = """\
1000.90 drafted in 0.10 s
1001.50 weights loaded: sha256 ff
1001.80 kernel ready, 0.20 s of it waiting for programs
1001.90 octave 1: 96 x 96 px, 1 tiles with 1 workers, from step 1
1002.50 octave 1 step 1: mean|g| 1.49e-06 in 0.60 s
1002.70 octave 1 step 2: mean|g| 1.49e-06 in 0.20 s
1002.80 saved octave 1, step 2 in 0.05 s
1002.81 first step done 2.50 s after the job began, 0.50 s of it waiting for programs
1003.00 programs: 1 loaded, 0 traced, 0 of them compiled, in 0.50 s; waited 0.50 s for them
1003.40 written: dream.png
1003.50 finished in 3.0 s: dream.png
"""


def test_the_parts_of_a_log_add_up_to_the_wall_time() -> None:
    parts, first_step = split(LOG, 1000.0, 3.7)
    assert list(parts) == list(PARTS)
    assert first_step == pytest.approx(2.5)
    assert sum(parts.values()) == pytest.approx(3.7)
    # Of the half second for kernels, 0.3 s are within the first step.
    assert parts == pytest.approx(
        {
            "imports, config": 0.8, "draft": 0.1, "workers, weights": 0.6, "first plan": 0.1, "kernels": 0.5,
            "octave changes": 0.35, "steps": 0.5, "saving": 0.05, "export": 0.5, "end": 0.2,
        }
    )  # fmt: skip


@pytest.mark.slow
def test_whole_jobs_are_timed_cold_and_warm() -> None:
    table = measure(quick=True)
    warm, cold = (next(row for row in table.rows if row["job"] == name) for name in (WARM, COLD))
    for row in (warm, cold):
        assert sum(float(row[part]) for part in PARTS) == pytest.approx(float(row["wall s"]))
        assert 0 < float(row["first step s"]) < float(row["wall s"])
    # Whatever else the machine does, compiling takes processor time that loading does not.
    assert float(cold["cpu s"]) > float(warm["cpu s"])


def test_words_choose_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of_make("names=job layers=mixed4,mixed5 sides=512 rounds=2")
    assert words == ["job", "--layers=mixed4,mixed5", "--sides=512", "--rounds=2"]
    for wrong, message in {
        "names=job layers=mixed99": "there is no layer 'mixed99' here",
        "names=job sides=512,,64": "is no list of widths",
        "names=kernels rounds=2": "only job has a choice of rounds",
        "names=job rounds=0": "invalid choice",
    }.items():
        with pytest.raises(SystemExit, match="2"):
            main(words_of_make(wrong))
        assert message in capsys.readouterr().err


def test_tiles_of_the_loop_have_one_shape_and_cover_the_picture() -> None:
    covered = np.zeros((TILE + 1, 3 * TILE))
    for top, left in corners_of_tiles(covered.shape):
        tile = covered[top : top + TILE, left : left + TILE]
        assert tile.shape == (TILE, TILE)
        tile += 1
    assert covered.min() == 1


class _Plain:
    """A library whose arrays are NumPy's and whose gradient is -2 everywhere: steps make the picture darker."""

    def __init__(self) -> None:
        self.saved: dict[str, np.ndarray] = {}
        self.tiles: list[int] = []

    def array(self, pixels: np.ndarray) -> np.ndarray:
        return pixels

    def resized(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), picture.mean())

    def gradient(self, picture: np.ndarray) -> np.ndarray:
        self.tiles.append(0)
        return np.full_like(picture, -2.0)

    def tiled_gradient(self, picture: np.ndarray, corners: list[tuple[int, int]], shift: tuple[int, int]) -> np.ndarray:
        self.tiles.append(len(corners))
        return np.full_like(picture, -2.0)

    def stepped(self, picture: np.ndarray, gradient: np.ndarray, step_size: float) -> np.ndarray:
        return picture + step_size * gradient / np.abs(gradient).mean()

    def save(self, picture: np.ndarray, path: str) -> None:
        self.saved[path] = picture


def test_the_loop_takes_every_step_and_tiles_large_pictures_only(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    LoopSettings("inception_v3", "mixed0", "none.npz", [(8, 8), (600, 1100)], 2, 1.5, "dream.png").write(file)
    library = _Plain()
    dream(library, LoopSettings(**json.loads(file.read_text())))
    assert library.tiles == [0, 0, 6, 6]
    assert library.saved["dream.png"].shape == (600, 1100, 3)
    # Four steps of 1.5 levels from a mean of about 128.
    assert library.saved["dream.png"].mean() == pytest.approx(122, abs=3)
