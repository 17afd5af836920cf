"""Grids of a film's frames: recorded once, and never taken from another film or a damaged record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from render.farm.checkpoint import ResumeKey
from render.film.dreamed.canvases import FrameCanvases
from render.film.dreamed.frame_grids import GRIDS, resume_keys, write_grids

DIGEST, WEIGHTS = "a" * 64, "b" * 64
FIRST, LATER = ((32, 48), (64, 64)), ((96, 96),)


def _keys(place: Path, digest: str = DIGEST) -> tuple[ResumeKey | None, ResumeKey | None]:
    return resume_keys(FrameCanvases(place, digest), digest)


def test_both_plans_keep_their_grids_without_any_canvas(tmp_path: Path) -> None:
    assert _keys(tmp_path) == (None, None)
    write_grids(tmp_path, ResumeKey(DIGEST, WEIGHTS, FIRST, 3), LATER)
    assert _keys(tmp_path) == (ResumeKey(DIGEST, WEIGHTS, FIRST, 3), ResumeKey(DIGEST, WEIGHTS, LATER, 3))


def test_a_record_of_another_film_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    write_grids(tmp_path, ResumeKey(DIGEST, WEIGHTS, FIRST, 3), LATER)
    assert _keys(tmp_path, "c" * 64) == (None, None)
    stored = json.loads((tmp_path / GRIDS).read_text())
    for damage in ({"threads": 4}, {"first": [[32]]}, {"later": [[0, 1]]}, {"version": 2}, {"sha256": "0" * 64}):
        (tmp_path / GRIDS).write_text(json.dumps(stored | damage))
        assert _keys(tmp_path) == (None, None), damage
    (tmp_path / GRIDS).write_text("")
    assert _keys(tmp_path) == (None, None)


def test_grids_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / GRIDS).mkdir()
    with pytest.raises(Exception, match=GRIDS):
        _keys(tmp_path)
