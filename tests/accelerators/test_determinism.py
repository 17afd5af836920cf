"""XLA's flags for the same bytes on GPUs of one kind: known to the compiler that is installed, and of effect."""

from __future__ import annotations

import pytest

from render.system.surroundings import determinism_flags
from tests.accelerators.compilers import compiled, missing
from tests.accelerators.requests import Report, Request

pytestmark = pytest.mark.slow

#: A step of an atlas adds the gradient of a turned view to pixels that several of its positions show.
ASCENT = Request("h200", "googlenet", "conv2/3x3", "float32", 64, program="ascent")
KERNEL = Request("h200", "inception_v3", "mixed0", "bfloat16", 160)


@pytest.fixture(scope="module")
def reports() -> dict[object, list[Report]]:
    if reason := missing("cuda"):
        pytest.skip(reason)
    return {setting: list(compiled([ASCENT, KERNEL], determinism_flags(setting))) for setting in (False, "auto", True)}


def test_programs_add_in_a_fixed_order(reports: dict[object, list[Report]]) -> None:
    """Without the flags an atlas' step has scatters, whose sums depend on chance."""
    assert reports[False][0].scatters > 0
    for setting in ("auto", True):
        assert [report.scatters for report in reports[setting]] == [0, 0]


def test_kernels_are_the_same_without_chance(reports: dict[object, list[Report]]) -> None:
    """They have no operation to exclude, so that the flags cost them nothing but autotuning."""
    before, *after = (reports[setting][1] for setting in (False, "auto", True))
    assert before.scatters == 0
    for report in after:
        assert (report.products, report.kernels, report.accessed_bytes) == (
            before.products,
            before.kernels,
            before.accessed_bytes,
        )
