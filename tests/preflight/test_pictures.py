"""Nothing good is refused and nothing bad is passed: a folder of files made by script, none misjudged."""

from __future__ import annotations

from pathlib import Path

import pytest

from render.commands.preflight import parse
from render.preflight.inspection import inspect
from render.preflight.print_report import Report, faults, report_lines, verdict
from tests.conftest import rendered
from tests.preflight.pictures import BAD, GOOD, Sample


def checked(sample: Sample, path: Path) -> Report:
    sample.write(path)
    return inspect(parse([f"file={path}", *sample.words]))


def kinds(report: Report) -> set[str]:
    return {fault.kind for fault in faults(report)}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_good_is_refused(name: str, tmp_path: Path) -> None:
    report = checked(GOOD[name], tmp_path / f"a{GOOD[name].suffix}")
    assert kinds(report) == set(), "\n".join(report_lines(report))
    assert verdict(report).startswith("ready for screens" if "screen" in name else "ready to print")


@pytest.mark.parametrize("name", BAD)
def test_every_fault_is_found(name: str, tmp_path: Path) -> None:
    report = checked(BAD[name], tmp_path / f"a{BAD[name].suffix}")
    assert kinds(report) == BAD[name].faults, "\n".join(report_lines(report))
    assert not verdict(report).startswith("ready")


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ("image=sample:chelsea", "output.width=480", "octaves.count=3", "octaves.steps=4", "objective.terms=[mixed3]"),
    ("image=sample:hubble", "output.width=700", "octaves.count=2", "octaves.steps=2", "objective.terms=[mixed0]"),
])  # fmt: skip
def test_dreams_are_not_called_enlarged(words: tuple[str, ...], tmp_path: Path) -> None:
    """Their octaves are enlarged by design, and the first one's source is half as wide as the dream."""
    directory = rendered(tmp_path / "run", *words, "output.dpi=150", "farm.executor=inline")
    report = inspect(parse([f"run={directory}"]))
    assert report.detail is not None
    assert not report.detail.is_enlarged
    assert "enlarged" not in kinds(report)
    assert "posterised" not in kinds(report)
    assert "jpeg" not in kinds(report)
