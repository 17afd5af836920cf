"""The plan: octave sizes, halos, automatic tiles, and what it refuses before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from render.config import Config, validate
from render.errors import UserError
from render.models.googlenet import GOOGLENET
from render.models.inception_v3 import INCEPTION_V3
from render.plan import Machine, Plan, make_plan

ROOMY = Machine(host_bytes=64 * 10**9, device_bytes=64 * 10**9, disk_free=10**12)


def job(**sections: object) -> Config:
    """A config with some keys changed: job(octaves=dict(count=3), output=dict(width=500))."""
    config = Config()
    for name, value in sections.items():
        changed = replace(getattr(config, name), **value) if isinstance(value, dict) else value
        setattr(config, name, changed)
    return validate(config)


def plan(config: Config, layers=("mixed4",), source=(872, 1000), machine: Machine = ROOMY, **more) -> Plan:
    return make_plan(config, INCEPTION_V3, layers, source, 10_000_000, machine, **more)


def test_octaves_go_from_coarse_to_the_size_asked_for() -> None:
    made = plan(job(output={"width": 800}))
    assert [octave.shape for octave in made.octaves] == [(182, 208), (254, 292), (356, 408), (499, 571), (698, 800)]
    assert [octave.index for octave in made.octaves] == [0, 1, 2, 3, 4]
    assert made.skipped_octaves == 0


@given(
    st.integers(300, 20_000),
    st.floats(0.3, 3),
    st.integers(1, 12),
    st.floats(1.05, 3),
    st.sampled_from(["mixed2", "mixed7"]),
)
def test_octaves_keep_their_ratio_and_never_get_useless(
    width: int, aspect: float, count: int, scale: float, layer: str
) -> None:
    huge = replace(ROOMY, host_bytes=10**13, device_bytes=10**13)
    height = max(300, round(width * aspect))
    config = job(octaves={"count": count, "scale": scale}, output={"width": width, "height": height})
    made = plan(config, (layer,), machine=huge)
    shapes = [octave.shape for octave in made.octaves]
    assert shapes[-1] == (height, width)
    assert len(shapes) + made.skipped_octaves == count
    for coarse, fine in zip(shapes, shapes[1:], strict=False):
        assert min(coarse) >= made.useful_side
        assert coarse[0] == pytest.approx(fine[0] / scale, abs=1.01)
        assert coarse[1] == pytest.approx(fine[1] / scale, abs=1.01)


@pytest.mark.parametrize(("halo", "pixels"), [("exact", 352), ("balanced", 176), (0, 0), (100, 112), (5000, 352)])
def test_halo_is_in_whole_strides_and_at_most_exact(halo: str | int, pixels: int) -> None:
    made = plan(job(tiles={"halo": halo}))
    assert (made.halo, made.exact_halo, made.stride) == (pixels, 352, 16)


@pytest.mark.parametrize(
    ("model", "layer", "exact"),
    [(GOOGLENET, "inception_3b", 96), (GOOGLENET, "inception_4c", 304), (GOOGLENET, "inception_4e", 432),
     (INCEPTION_V3, "mixed2", 128), (INCEPTION_V3, "mixed5", 544)],
)  # fmt: skip
def test_exact_halos_are_those_of_the_design(model, layer: str, exact: int) -> None:
    assert make_plan(job(), model, (layer,), (872, 1000), 0, ROOMY).halo == exact


def test_several_layers_take_the_widest_field_and_stride() -> None:
    made = plan(job(), ("mixed0", "mixed4"))
    assert (made.halo, made.stride) == (352, 16)


def test_auto_fits_the_memory_with_as_little_halo_work_as_it_can() -> None:
    """Less memory, smaller windows, more work; what XLA says counts, not the first guess."""

    def cost(window: tuple[int, int], core: tuple[int, int]) -> int:
        return 1700 * window[0] * window[1]

    config = job(output={"width": 9000})
    work = []
    for gigabytes in (32, 16, 8, 4, 3):
        machine = replace(ROOMY, device_bytes=gigabytes * 10**9, shares_memory=False)
        made = plan(config, machine=machine, window_bytes=cost)
        largest = max(octave.grid.window_shape[0] * octave.grid.window_shape[1] for octave in made.octaves)
        assert made.kernel_bytes == 1700 * largest <= machine.device_bytes / 2
        work.append(made.window_pixels)
    assert work == sorted(work)
    assert work[-1] > 1.2 * work[0]
    by_hand = [plan(job(output={"width": 9000}, tiles={"size": size}), machine=ROOMY) for size in (512, 1024, 2048)]
    assert work[0] <= min(other.window_pixels for other in by_hand)


def test_auto_does_not_cut_what_fits_in_one_window() -> None:
    made = plan(job(output={"width": 2700}, octaves={"count": 3}))
    assert [octave.grid.tiles for octave in made.octaves] == [1, 1, 1]


@given(st.integers(50, 9000), st.integers(50, 9000))
def test_auto_tiles_are_even(height: int, width: int) -> None:
    """No slivers: the last tile is nearly as large as the others."""
    made = plan(job(output={"width": width, "height": height}, octaves={"count": 1}), ("mixed0",))
    for axis in (made.final.grid.rows, made.final.grid.columns):
        assert axis.core(axis.tiles - 1).size >= axis.core_size - axis.tiles


@given(st.integers(64, 3000), st.integers(64, 3000))
def test_round_pixels_of_print_sizes(width_mm: int, dpi: int) -> None:
    config = job(output={"width_cm": width_mm / 10, "dpi": float(dpi)}, octaves={"count": 1})
    assume(width_mm * dpi / 25.4 < 30_000)
    assume(width_mm * dpi / 25.4 > 500)
    huge = replace(ROOMY, host_bytes=10**14, device_bytes=10**14)
    assert plan(config, machine=huge).final.shape[1] == pytest.approx(width_mm * dpi / 25.4, abs=0.51)


def test_height_follows_the_source_or_is_given() -> None:
    assert plan(job(output={"width": 500})).final.shape == (436, 500)
    assert plan(job(output={"height": 436})).final.shape == (436, 500)
    assert plan(job()).final.shape == (872, 1000)
    assert plan(job(output={"width": 500, "height": 500})).final.shape == (500, 500)
    assert plan(job(output={"width": 600}), source=None).final.shape == (400, 600)


@pytest.mark.parametrize(
    ("config", "machine", "words"),
    [
        (job(output={"width": 100_000}), ROOMY, ("memory", "render it smaller")),
        (job(output={"width": 3000}), replace(ROOMY, disk_free=10**6), ("disk", "output.dir")),
        (job(output={"width": 70_000, "format": "jpeg"}), ROOMY, ("65,500", "output.format=png")),
        (job(output={"width": 17_000, "format": "webp"}), ROOMY, ("16,383", "output.format=jpeg")),
        (job(output={"width": 3000}, tiles={"size": 3000}), replace(ROOMY, device_bytes=10**9), ("tiles.size", "window")),
        (job(output={"width": 9, "height": 9}, boundary={"fill": 0}), ROOMY, ("coarsest octave", "mixed4")),
    ],
)  # fmt: skip
def test_refuses_what_cannot_work(config: Config, machine: Machine, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refusal:
        plan(config, machine=machine)
    for word in words:
        assert word in str(refusal.value)


def test_noise_needs_a_size() -> None:
    with pytest.raises(UserError, match=r"output\.width"):
        plan(job(), source=None)


def test_predicted_work_is_what_the_grid_does() -> None:
    made = plan(job(output={"width": 2500}, tiles={"size": 256}, octaves={"count": 2, "steps": 3}))
    assert made.window_pixels == sum(
        3 * octave.grid.tiles * octave.grid.window_shape[0] * octave.grid.window_shape[1] for octave in made.octaves
    )
    assert made.final.grid.tiles == 10 * 9
