"""Views of canvases: exact, without shimmering, and the same from any level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from render.canvas.store import CanvasStore, create
from render.dreaming.resample import Pixels, resample_array
from render.errors import UserError
from render.film.flight import canvas_levels as levels_module
from render.film.flight import view_sampling
from render.film.flight.camera_path import View, whole_view
from render.film.flight.canvas_levels import build_levels, level_count, level_shape, levels_bytes
from render.film.flight.view_sampling import ViewReader

FRAME = (90, 160)


def stored(path: Path, pixels: Pixels) -> CanvasStore:
    shape = (pixels.shape[0], pixels.shape[1])
    create(path, shape, "c0ffee")
    store = CanvasStore(path, mode="r+")
    store.write(store.rect, pixels)
    return store


def reader(tmp_path: Path, pixels: Pixels, widest: float | None = None) -> ViewReader:
    canvas = stored(tmp_path / "canvas", pixels)
    count = level_count(widest or canvas.shape[1], FRAME[1])
    return ViewReader(build_levels(canvas, count, tmp_path / "levels", lambda _line: None), FRAME)


def noise(shape: tuple[int, int], seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).uniform(0, 255, (*shape, 3)).astype(np.float32)


def zone_plate(shape: tuple[int, int]) -> Pixels:
    """Rings whose frequency grows up to that of the canvas' pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    square = (x - shape[1] / 2) ** 2 + (y - shape[0] / 2) ** 2
    grey = 127.5 + 127.5 * np.cos(np.pi * square / max(shape))
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)


def test_view_of_a_pixel_for_each_pixel_is_the_canvas_itself(tmp_path: Path) -> None:
    pixels = noise((700, 900))
    view = ViewReader([stored(tmp_path / "canvas", pixels)], FRAME).read(View(300 + 80, 200 + 45, 160))
    np.testing.assert_array_equal(view, pixels[200:290, 300:460])


def test_whole_view_is_the_canvas_as_resampled_for_pictures(tmp_path: Path) -> None:
    pixels = noise((180, 320))
    view = ViewReader([stored(tmp_path / "canvas", pixels)], FRAME).read(whole_view((180, 320), 90 / 160))
    np.testing.assert_array_equal(view, resample_array(pixels, FRAME))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turn_shows_the_upright_view_rotated(tmp_path: Path, quarters: int) -> None:
    pixels = resample_array(noise((60, 60)), (400, 400))
    canvas = stored(tmp_path / "canvas", pixels)
    square = ViewReader([canvas], (100, 100))
    upright = square.read(View(200, 180, 100))
    # The camera turns counterclockwise, so what it sees turns clockwise.
    turned = square.read(View(200, 180, 100, 90 * quarters))
    np.testing.assert_allclose(turned, np.rot90(upright, -quarters), atol=0.5)


def test_small_turn_at_the_edge_stays_near_the_upright_view(tmp_path: Path) -> None:
    pixels = resample_array(noise((40, 60)), (200, 300))
    square = ViewReader([stored(tmp_path / "canvas", pixels)], FRAME)
    view = View(81, 46, 160)
    difference = np.abs(square.read(View(view.x, view.y, view.width, 1e-4)) - square.read(view))
    assert difference.max() < 1


def test_strips_of_a_turned_frame_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = stored(tmp_path / "canvas", noise((400, 500)))
    view = View(250, 200, 300, 20)
    whole = ViewReader([canvas], FRAME).read(view)
    upright = ViewReader([canvas], FRAME).read(View(250, 200, 300))
    monkeypatch.setattr(view_sampling, "_STRIP_PIXELS", 16 * FRAME[1])
    np.testing.assert_allclose(ViewReader([canvas], FRAME).read(view), whole, atol=0.01)
    np.testing.assert_array_equal(ViewReader([canvas], FRAME).read(View(250, 200, 300)), upright)


@pytest.mark.parametrize("turn", [0.0, 30.0])
def test_zoom_over_a_zone_plate_neither_shimmers_nor_changes_its_mean(tmp_path: Path, turn: float) -> None:
    source = reader(tmp_path, zone_plate((1500, 1500)))
    for width in np.geomspace(1000, 700, 12):
        frame = source.read(View(750, 750, float(width), turn))
        assert abs(frame.mean() - 127.5) < 1
        # Rings there are twice as fine as a frame's pixels can show: all that may be seen is their grey.
        assert np.abs(frame[:, :8] - 127.5).max() < 2
    fine = np.zeros((1500, 1500, 3), np.float32)
    fine[::2, ::2] = fine[1::2, 1::2] = 255
    grid = reader(tmp_path / "grid", fine)
    for width in np.geomspace(1000, 480, 8):
        frame = grid.read(View(750, 750, float(width), turn))
        assert np.abs(frame - 127.5).max() < 1


def test_change_of_level_is_not_seen(tmp_path: Path) -> None:
    source = reader(tmp_path, resample_array(noise((500, 500)), (1000, 1000)))
    before, after = (source.read(View(500, 500, width)) for width in (2 * 160 - 0.001, 2 * 160 + 0.001))
    assert np.abs(before - after).mean() < 1


def test_turned_view_of_a_level_lies_where_the_canvas_has_it(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:1001, :1203]
    pixels = np.stack([columns / 5, rows / 5, 0 * rows], axis=2).astype(np.float32)
    source = reader(tmp_path, pixels)
    frame = source.read(View(601.5, 500.5, 640, 45))
    centre = frame[44:46, 79:81].mean(axis=(0, 1))
    np.testing.assert_allclose(centre, [601 / 5, 500 / 5, 0], atol=0.3)


def test_levels_halve_down_to_the_frame_and_are_built_once(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "canvas", noise((601, 1301)))
    lines: list[str] = []
    count = level_count(1301, 160)
    stores = build_levels(canvas, count, tmp_path / "levels", lines.append)
    assert [store.shape for store in stores] == [(601, 1301), (301, 651), (151, 326), (76, 163)]
    assert level_shape((601, 1301), 3) == (76, 163)
    assert levels_bytes(canvas.shape, count) >= sum(store.shape[0] * store.shape[1] * 12 for store in stores[1:])
    assert len(lines) == count
    build_levels(canvas, count, tmp_path / "levels", lines.append)
    assert len(lines) == count
    assert sorted(path.name for path in (tmp_path / "levels").iterdir()) == ["level-01", "level-02", "level-03"]


def test_levels_in_bands_are_those_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = stored(tmp_path / "canvas", noise((1100, 1300)))
    at_once = build_levels(canvas, 1, tmp_path / "whole", lambda _line: None)[1]
    monkeypatch.setattr(levels_module, "_BAND_PIXELS", 512 * 512)
    in_bands = build_levels(canvas, 1, tmp_path / "bands", lambda _line: None)[1]
    np.testing.assert_array_equal(in_bands.read(in_bands.rect), at_once.read(at_once.rect))


def test_levels_of_another_canvas_are_replaced(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "canvas", noise((300, 400)))
    build_levels(canvas, 1, tmp_path / "levels", lambda _line: None)
    create(tmp_path / "other", (300, 400), "decaf")
    other = CanvasStore(tmp_path / "other", mode="r+")
    other.write(other.rect, noise((300, 400), seed=1))
    level = build_levels(other, 1, tmp_path / "levels", lambda _line: None)[1]
    expected = build_levels(other, 1, tmp_path / "fresh", lambda _line: None)[1]
    np.testing.assert_array_equal(level.read(level.rect), expected.read(expected.rect))


def test_interrupted_level_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = stored(tmp_path / "canvas", noise((600, 700)))

    def interrupt(*_values: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CanvasStore, "flush", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_levels(canvas, 1, tmp_path / "levels", lambda _line: None)
    assert not list((tmp_path / "levels").iterdir())
    assert build_levels(canvas, 1, tmp_path / "levels", lambda _line: None)[1].shape == (300, 350)


def test_levels_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "canvas", noise((300, 400)))
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UserError, match="levels of the canvas cannot be written"):
        build_levels(canvas, 1, tmp_path / "file" / "levels", lambda _line: None)
    assert (tmp_path / "file").read_bytes() == b"mine"
