"""Soft proofs: colours of the print on the screen, and where it lacks some, by the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.export.export import working_image
from render.export.profile import read_profile
from render.export.soft_proof import WARNING_COLOUR, Proof, proof
from tests.conftest import TINY
from tests.export.test_colour import written
from tests.export.test_export import stored
from tests.support.icc_files import black_only_link

#: Greys, which every press has, beside pure green and blue, which none has.
GREY, VIVID = (150, 150, 150), (0, 255, 0)


@pytest.fixture
def pixels() -> np.ndarray:
    halves = np.zeros((40, 80, 3), np.float32)
    halves[:, :40], halves[:, 40:] = GREY, VIVID
    halves[:10, :10] = 255
    return halves


def proven(pixels: np.ndarray, directory: Path, **options: bool) -> Proof:
    press = read_profile("cmyk")
    with working_image(stored(directory / "a", pixels), lambda part: part, 16) as (picture, space):
        return proof(picture.image, press, "relative", space, **options)


def test_colours_that_the_press_lacks_are_marked_and_shown_as_it_prints_them(pixels: np.ndarray, tmp_path: Path) -> None:
    result = proven(pixels, tmp_path)
    assert result.beyond == pytest.approx(0.5, abs=0.01)
    is_marked = (result.warning == np.array(WARNING_COLOUR)).all(2)
    assert not is_marked[:, :40].any()
    assert is_marked[:, 40:].all()
    assert np.abs(result.shown[20:, :38].astype(int) - GREY).max() < 15, "as far as this profile knows its own inks"
    assert np.abs(result.shown[:, 42:].astype(int) - VIVID).max() > 60, "ink's green is another"
    assert result.shown[:9, :9].min() > 252, "paper is the screen's white"


def test_the_papers_white_is_shown_on_request(pixels: np.ndarray, tmp_path: Path) -> None:
    shown = proven(pixels, tmp_path, paper=True).shown
    assert shown[:9, :9].min() < 250


def test_every_colour_of_srgb_is_one_of_p3(tmp_path: Path) -> None:
    cube = np.stack(np.meshgrid(*[np.linspace(0, 255, 12)] * 3), -1).reshape(48, 36, 3).astype(np.float32)
    profile = read_profile("p3")
    with working_image(stored(tmp_path / "a", cube), lambda part: part, 16) as (picture, space):
        result = proof(picture.image, profile, "relative", space)
    assert result.beyond == 0
    assert np.abs(result.shown - cube).max() < 3


def test_the_command_writes_both_pictures_and_replaces_none(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    done = command("proof", "run=run", "profile=cmyk", "width=48")
    assert done.code == 0, done.err
    assert "% of the picture has colours that cmyk lacks: proof-gamut.png" in done.out
    with Image.open(tmp_path / "proof.png") as read, Image.open(tmp_path / "proof-gamut.png") as warning:
        assert read.size == warning.size
        assert max(read.size) == 48
    command("proof", "run=run", "profile=cmyk").refused("proof.png exists", "overwrite=true")
    assert command("proof", "run=run", "profile=p3", "intent=perceptual", "paper=true", "overwrite=true").code == 0
    assert max(written(tmp_path / "proof.png").shape) == 96
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    (tmp_path / "link.icc").write_bytes(black_only_link())
    for words, refusal in (
        (("run=run",), "proof needs a run and a profile"),
        (("run=run", "profile=srgb", "to=a.png"), "profile=srgb is what the canvas is in"),
        (("run=run", "profile=link.icc", "to=a.png"), "profile=link.icc is a device link"),
        (("run=run", "profile=nothing.icc", "to=a.png"), "render: profile=nothing.icc: No such file"),
        (("run=nothing", "profile=p3", "to=a.png"), "there is no run"),
        (("run=run", "profile=p3", "intent=best"), "intent=best: must be perceptual, relative or absolute"),
        (("run=run", "profile=p3", "width=0"), "width=0: must be from 1"),
        (("run=run", "profile=p3", "to=proof.jpg"), "must end in .png"),
        (("run=run", "profile=p3", "to=no/a.png"), "its directory does not exist"),
        (("run=run", "profile=p3", "quality=3"), "proof does not know 'quality=3'"),
    ):
        command("proof", *words).refused(refusal)
    assert not list(tmp_path.glob("a*.png"))
