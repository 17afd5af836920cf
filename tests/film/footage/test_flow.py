"""Flow: known motions are found, occlusions are not trusted, and bytes are the same in any process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from render.film.footage.flow import Displacements, agreement, grey, measure_flow, measure_motion
from tests.film.footage import clips

SHAPE = (160, 224)
#: Pixels at the edges, which may come in.
EDGE = 16


def _motion_errors(first: clips.Frame, second: clips.Frame, expected: np.ndarray) -> np.ndarray:
    flow = measure_flow(grey(second), grey(first))
    return np.hypot(*np.moveaxis(flow - expected, 2, 0))[EDGE:-EDGE, EDGE:-EDGE]


@pytest.mark.parametrize("speed", [(0.0, 1.0), (-3.0, 5.0), (7.0, 12.0), (0.5, 0.25)])
def test_flow_of_a_pan_is_the_way_of_the_camera(speed: tuple[float, float]) -> None:
    first, second = clips.pan(clips.photo("astronaut"), SHAPE, 2, speed)
    errors = _motion_errors(first, second, np.array([speed[1], speed[0]]))
    assert errors.mean() < 0.05


def test_flow_of_a_turn_leads_back_to_the_frame_before() -> None:
    first, second = clips.turning(clips.photo("astronaut"), SHAPE, 2, 3.0)
    angle = np.radians(3.0)
    rows = np.arange(SHAPE[0])[:, None] - (SHAPE[0] - 1) / 2
    columns = np.arange(SHAPE[1])[None, :] - (SHAPE[1] - 1) / 2
    before = np.stack(
        [np.sin(angle) * rows + np.cos(angle) * columns, np.cos(angle) * rows - np.sin(angle) * columns], axis=2
    )
    expected = before - np.stack(np.broadcast_arrays(columns, rows), axis=2)
    assert _motion_errors(first, second, expected).mean() < 0.1
    trust = measure_motion(grey(first), grey(second), 1.5).trust
    assert trust[EDGE:-EDGE, EDGE:-EDGE].mean() > 0.98


def test_background_that_an_object_uncovers_is_not_trusted() -> None:
    first, second = clips.passing(clips.photo("coffee"), clips.photo("chelsea"), SHAPE, 2, 8.0)
    trust = measure_motion(grey(first), grey(second), 1.5).trust
    uncovered = clips.disc(SHAPE, 0, 8.0) & ~clips.disc(SHAPE, 1, 8.0)
    assert trust[uncovered].mean() < 0.15
    far = np.hypot(*np.indices(SHAPE)) < SHAPE[0] / 6
    assert trust[far].mean() > 0.95


def test_what_comes_in_at_an_edge_is_not_trusted() -> None:
    first, second = clips.pan(clips.photo("astronaut"), SHAPE, 2, (0.0, 20.0))
    assert measure_motion(grey(first), grey(second), 1.5).trust[:, -18:].mean() < 0.1


def test_flows_agree_within_the_tolerance_only() -> None:
    def uniform(right: float) -> Displacements:
        return np.tile(np.array([right, 0.0], np.float32), (32, 32, 1))

    assert agreement(uniform(0.0), uniform(1.4), 1.5).all()
    assert not agreement(uniform(0.0), uniform(1.6), 1.5).any()
    assert agreement(uniform(0.0), uniform(1.6), 2.0).all()


@pytest.mark.parametrize("shape", [(2, 2), (15, 400), (16, 16), (17, 300)])
def test_tiny_and_flat_frames_stand_still(shape: tuple[int, int]) -> None:
    flat = np.full(shape, 90, np.uint8)
    motion = measure_motion(flat, flat, 1.5)
    assert not motion.back.any()
    assert motion.trust.all()


def test_flow_has_the_same_bytes_in_another_process_with_threads_of_its_own() -> None:
    code = (
        "import hashlib, cv2\n"
        "cv2.setNumThreads(2)\n"
        "from tests.film.footage import clips\n"
        "from render.film.footage.flow import grey, measure_flow\n"
        "first, second = clips.pan(clips.photo('astronaut'), (160, 224), 2, (-3.0, 5.0))\n"
        "print(hashlib.sha256(measure_flow(grey(second), grey(first)).tobytes()).hexdigest())\n"
    )
    first, second = clips.pan(clips.photo("astronaut"), SHAPE, 2, (-3.0, 5.0))
    digests = {hashlib.sha256(measure_flow(grey(second), grey(first)).tobytes()).hexdigest() for _ in range(2)}
    root = Path(__file__).parents[3]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert {ran.stdout.strip()} == digests


def test_flow_has_the_same_bytes_in_any_thread() -> None:
    """OpenCV keeps settings that change its rounding for each thread."""
    first, second = map(grey, clips.pan(clips.photo("coffee"), SHAPE, 2, (1.0, 2.0)))
    with ThreadPoolExecutor(2) as threads:
        flows = [measure_flow(second, first), *threads.map(lambda _: measure_flow(second, first), range(4))]
    assert len({flow.tobytes() for flow in flows}) == 1
