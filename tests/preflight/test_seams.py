"""The seam meter sees steps along borders, and nothing else: no content, no grid of a codec, no cut into strips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from render.canvas.image import to_integers
from render.export.print_layout import borders
from render.preflight.seams import LEAST_TILE, SEGMENT, SeamMeter
from tests.reports.seam import dream
from tests.reports.seam_meter import coded, meter

TILE = 96


def texture(seed: int, shape: tuple[int, int] = (600, 720), blur: float = 1.5) -> np.ndarray:
    """Smooth noise, contrasty in some places and flat in others, 0..255 float32."""
    random = np.random.default_rng(seed)
    fine = gaussian_filter(random.normal(size=(*shape, 3)), (blur, blur, 0))
    coarse = gaussian_filter(random.normal(size=(*shape, 1)), (40, 40, 0))
    contrast = np.exp(coarse / coarse.std())
    return np.clip(128 + 30 * contrast * fine / fine.std(), 0, 255).astype(np.float32)


def stepped(pixels: np.ndarray, height: float, tile: int = TILE, seed: int = 1) -> np.ndarray:
    """The picture with every tile brighter or darker at random, by `height` levels on average."""
    rows, columns = (-(-side // tile) for side in pixels.shape[:2])
    levels = np.random.default_rng(seed).normal(0, height, (rows, columns, 1)).astype(np.float32)
    return pixels + levels.repeat(tile, 0).repeat(tile, 1)[: pixels.shape[0], : pixels.shape[1]]


@pytest.mark.parametrize("blur", [0.7, 1.5, 4.0])
def test_a_picture_without_borders_has_none(blur: float) -> None:
    for pixels in (texture(3, blur=blur), to_integers(texture(3, blur=blur), 8)):
        seams = meter(pixels, TILE)
        assert seams.borders == (6, 7)
        assert abs(seams.ratio - 1) < 3 * seams.error
        assert seams.error < 0.03
        assert not seams.found


def test_steps_are_found_and_grow() -> None:
    """Steps of a few levels, far fainter than the texture, in float and in 8 bits."""
    pixels = texture(4)
    ratios = [meter(stepped(pixels, height), TILE).ratio for height in (0, 2, 4, 8, 16)]
    assert ratios == sorted(ratios)
    faint = stepped(pixels, 4)
    for seams in (meter(faint, TILE), meter(to_integers(faint, 8), TILE)):
        assert seams.found
        assert seams.ratio > 1.1


def test_one_seam_is_found_on_either_axis() -> None:
    pixels = texture(5)
    across, down = pixels.copy(), pixels.copy()
    across[192:] += 12
    down[:, 192:] += 12
    for stepped_pixels, rows, columns in ((across, [192], []), (down, [], [192])):
        measured = SeamMeter(pixels.shape[:2], [192], [192])
        measured.add(stepped_pixels)
        seamed, other = measured.result(rows, columns), measured.result(columns, rows)
        assert seamed is not None
        assert seamed.found
        sides = [192] if rows else [], [192] if columns else []
        unseamed = measured.result(*reversed(sides))
        assert unseamed is not None
        assert not unseamed.found
        assert other is not None


def test_where_there_are_no_borders_nothing_is_found() -> None:
    """The steps lie elsewhere than the meter is told."""
    assert not meter(stepped(texture(6), 6, tile=80), TILE).found


def test_the_error_tells_how_far_the_ratio_strays() -> None:
    """Over many pictures without seams, ratios lie about 1 as widely as the errors say, and none is called a seam."""
    measured = [meter(texture(seed, (400, 480)), TILE) for seed in range(30)]
    strays = np.array([(seams.ratio - 1) / seams.error for seams in measured])
    assert abs(strays.mean()) < 0.6
    assert 0.5 < strays.std() < 1.4
    assert not any(seams.found for seams in measured)


@pytest.mark.parametrize(
    ("form", "options"),
    [("jpeg", {"quality": 75, "subsampling": 2}), ("jpeg", {"quality": 92, "subsampling": 0}), ("webp", {"quality": 80})],
)
def test_the_grid_of_a_codec_is_no_seam(form: str, options: dict[str, int]) -> None:
    """Tiles end where blocks of 8 and 16 px do."""
    picture = coded(to_integers(texture(7), 8), form, **options)
    seams = meter(picture, TILE)
    assert abs(seams.ratio - 1) < max(0.03, 3 * seams.error)
    # And the blocks are there to be found, by a meter that compares borders with whatever lies beside them:
    steps = np.abs(np.diff(picture.astype(float), axis=1)).mean(axis=(0, 2))
    assert form == "webp" or options["quality"] > 90 or steps[15::16].mean() > 1.05 * steps[11::16].mean()


def test_a_flat_picture_has_no_seam() -> None:
    seams = meter(np.full((300, 300, 3), 7, np.uint8), 64)
    assert seams.ratio == pytest.approx(1)
    assert not seams.found


def test_sixteen_bits_say_what_eight_do() -> None:
    pixels = to_integers(stepped(texture(8), 4), 8)
    wide = SeamMeter(pixels.shape[:2], borders(600, TILE), borders(720, TILE), white=65535)
    wide.add(pixels.astype(np.uint16) * 257)
    seams = wide.result()
    assert seams is not None
    assert seams.ratio == pytest.approx(meter(pixels, TILE).ratio, abs=1e-9)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(0, 40), st.integers(32, 120))
def test_strips_make_no_difference(heights: list[int], origin: int, tile: int) -> None:
    """However the picture is cut, the same numbers come out to the last bit, and little of it is kept."""
    pixels = texture(9, (330, 200))
    rows, columns = borders(330, tile, origin), borders(200, tile, origin)
    once = SeamMeter((330, 200), rows, columns)
    once.add(pixels)
    cut = SeamMeter((330, 200), rows, columns)
    top = 0
    for height in [*heights, 330]:
        if top < 330:
            cut.add(pixels[top : top + height])
            top += height
            assert cut._bottom - cut._top <= SEGMENT + 24
    assert cut.result() == once.result()
    assert once.result() is not None


@given(st.integers(1, 3000), st.integers(1, 500), st.integers(0, 5000))
def test_borders_are_the_multiples_of_the_tile_within(length: int, tile: int, origin: int) -> None:
    assert borders(length, tile, origin) == [at for at in range(1, length) if (at + origin) % tile == 0]


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=30)
def test_any_shape_and_tile_can_be_asked_for(rows: int, columns: int, tall: int, wide: int) -> None:
    """Where there is too little to measure, nothing is claimed."""
    measured = SeamMeter((rows, columns), borders(rows, tall), borders(columns, wide))
    measured.add(np.zeros((rows, columns, 3), np.uint8))
    seams = measured.result()
    assert seams is None or (seams.ratio == pytest.approx(1) and np.isfinite(seams.error))
    if min(rows, columns) > 150 and min(tall, wide) >= LEAST_TILE and max(tall, wide) < 100:
        assert seams is not None


@pytest.mark.slow
def test_a_render_without_halo_has_seams_and_an_exact_one_has_none() -> None:
    """As small as can be; the exact one in one piece, which exact tiles equal. See tests.seam_meter_report."""
    job = (
        "image=sample:hubble",
        "output.width=560",
        "octaves.count=1",
        "octaves.steps=5",
        "step_size=6",
        "objective.terms=[mixed3]",
    )
    exact = dream("preview", [*job, "tiles.size=4096"])
    without = dream("preview", [*job, f"tiles.size={TILE}", "tiles.halo=0"])
    for canvas in (without, to_integers(without, 8)):
        seams = meter(canvas, TILE)
        assert seams.found, seams
        assert seams.ratio > 1.08
    for canvas in (exact, to_integers(exact, 8)):
        seams = meter(canvas, TILE)
        assert abs(seams.ratio - 1) < 2 * seams.error < 0.06, seams
        assert not seams.found
    # Not where the tiles of the one without halo do not end.
    assert not meter(without, 64).found
