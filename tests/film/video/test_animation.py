from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.errors import UserError
from render.film.video.animation import read_picture, write_animation, write_numbered
from render.film.video.film_formats import choose
from render.film.video.segment_joining import constant
from tests.film.video.clips import SHAPE, pictures


def _png_files(directory: Path, count: int) -> list[Path]:
    paths = [directory / f"{number:06d}.png" for number in range(count)]
    for path, picture in zip(paths, pictures(count), strict=True):
        Image.fromarray(picture).save(path)
    return paths


@pytest.mark.parametrize(("form", "tick_ms", "difference"), [("gif", 10, 12), ("webp", 1, 4)])
def test_animation_has_all_frames_for_their_time(tmp_path, form, tick_ms, difference):
    rate, count = Fraction(24), 30
    settings = choose(form, None, 8, SHAPE, rate=rate)
    write_animation(tmp_path / "a", _png_files(tmp_path, count), settings, constant(rate, count))
    with Image.open(tmp_path / "a") as animation:
        assert (animation.n_frames, animation.size, animation.info["loop"]) == (count, SHAPE[::-1], 0)
        elapsed = 0
        for number, picture in enumerate(pictures(count)):
            animation.seek(number)
            animation.load()
            assert abs(elapsed - number * 1000 / rate) <= tick_ms / 2 + 1
            elapsed += animation.info["duration"]
            assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - picture).mean() < difference
    assert abs(elapsed - count * 1000 / rate) <= tick_ms / 2 + 1


def test_animation_of_missing_or_other_pictures_is_refused(tmp_path):
    settings = choose("gif", None, 8, SHAPE)
    paths = _png_files(tmp_path, 3)
    paths[1].unlink()
    with pytest.raises(UserError, match=r"000001\.png cannot be read"):
        write_animation(tmp_path / "a.gif", paths, settings, constant(Fraction(24), 3))
    Image.new("RGB", (32, 32)).save(paths[1])
    with pytest.raises(UserError, match="is 32 x 32 px"):
        write_animation(tmp_path / "a.gif", paths, settings, constant(Fraction(24), 3))
    assert not (tmp_path / "a.gif").exists()


def test_numbered_pictures_keep_every_pixel(tmp_path):
    path = _png_files(tmp_path, 1)[0]
    for form, suffix in (("frames-png", "png"), ("frames-tiff", "tif")):
        written = write_numbered(tmp_path / "frames", 7, path, choose(form, None, 8, SHAPE))
        assert written == tmp_path / "frames" / f"000007.{suffix}"
        with Image.open(written) as picture:
            assert np.array_equal(np.asarray(picture), read_picture(path))
