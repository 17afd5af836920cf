"""Nothing good is refused and nothing bad is passed: a folder of files made by script, none misjudged."""

from __future__ import annotations

from pathlib import Path

import pytest

from render.commands.preflight import parse
from render.preflight.inspection import inspect
from render.preflight.print_report import Report, faults, report_lines, verdict
from tests.conftest import INLINE, rendered
from tests.preflight.pictures import BAD, GOOD, Sample, vips
from tests.preflight.scenes import LANCZOS, photograph, resized


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
def test_a_dream_is_not_called_enlarged(tmp_path: Path) -> None:
    """Its octaves are enlarged by design, and its source is half as wide: both are dreamed on at full size."""
    job = ("image=sample:chelsea", "output.width=900", "octaves.count=2", "octaves.steps=3", "objective.terms=[mixed1]")
    directory = rendered(tmp_path / "run", *job, "output.dpi=150", INLINE)
    report = inspect(parse([f"run={directory}"]))
    assert report.detail is not None
    assert not report.detail.is_enlarged
    assert verdict(report) == "ready to print"
    # The source alone, enlarged as much.
    source = resized(photograph("chelsea"), 900 / 451, LANCZOS)
    vips(source).pngsave(str(tmp_path / "source.png"))
    assert kinds(inspect(parse([f"file={tmp_path / 'source.png'}"]))) == {"enlarged"}
