"""Whatever bytes others wrote are read or refused in one line: a small, repeatable part of `tests.reports.fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import TINY, rendered
from tests.support.fuzzing import TARGETS, Target, check, contents, of_run

_EXAMPLES = 150
_OF_RUNS = ("run", "progress", "manifest")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """All targets: those of a run begin with one that was really rendered."""
    return TARGETS | of_run(rendered(tmp_path_factory.mktemp("run") / "run", *TINY))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*TARGETS, *_OF_RUNS])
def test_damaged_files_are_read_or_refused_in_one_line(
    name: str, targets: dict[str, Target], tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = targets[name]

    @seed(20)
    @settings(max_examples=_EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(content=st.one_of(st.sampled_from(target.seeds), contents(target)))
    def read(content: bytes) -> None:
        assert check(target, tmp_path_factory.mktemp(name, numbered=True), content) is None

    read()


def test_whole_files_are_read(targets: dict[str, Target], tmp_path: Path) -> None:
    """What the damaged ones begin with is no file that would be refused anyway."""
    for name in ("npz", "safetensors", "caffemodel", "torchscript", "points", "icc", "png", "jpg", "webp", "tif", "run"):
        for content in targets[name].seeds:
            directory = tmp_path / name
            directory.mkdir(exist_ok=True)
            (directory / targets[name].file).write_bytes(content)
            targets[name].read(directory / targets[name].file)
