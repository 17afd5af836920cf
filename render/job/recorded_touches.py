"""Touches of a finished canvas in its run's record, and the names of their files in the run's home.

A record's touches are those of the canvas with the token that they name. After a canvas is dreamed anew they are what can
be done again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from render.storage.opening import open_storage
from render.storage.records import Between, Matching, Sha256, Side, WholeNumber
from render.storage.url import Place, joined

#: Key of the record, and name of the directory in a run's home.
TOUCHES = "touches"
#: Names in that directory: octaves of a touch that is going on, chunks that a touch replaced, and masks.
WORK = "work"
_CANVAS_NAME = re.compile(rf"{WORK}|\d{{4,9}}")
_MASK_NAME = re.compile(r"mask-[0-9a-f]{64}")


class _TouchRequired(TypedDict):
    number: Annotated[int, Between(1, 999_999_999)]
    key: Sha256
    to: Literal["dream", "source"]
    box: list[WholeNumber]
    feather: Annotated[float, Between(0, 1 << 25)]
    config: dict[str, Any]


class RecordedTouch(_TouchRequired, total=False):
    """A touch in a record: `box` is x, y, width and height, and `mask` the sha256 of the painted file, if there is one."""

    mask: Sha256
    identity: dict[str, str | None]
    tile: list[Side]
    threads: Annotated[int, Between(1, 100_000)]
    weights_sha256: str


class _TouchesRequired(TypedDict):
    canvas: Annotated[str, Matching("[0-9A-Za-z]{1,32}")]
    applied: list[RecordedTouch]
    pending: str


class RecordedTouches(_TouchesRequired, total=False):
    """Touches of a canvas in their order, and the key of a change whose pictures are not all written yet.

    `waiting` are touches of a canvas that is gone, which have not been done again.
    """

    waiting: list[RecordedTouch]


def undo_place(home: Place, number: int) -> Place:
    """Return the place of the chunks that a touch replaced."""
    return joined(home, f"{TOUCHES}/{number:04d}")


def work_place(home: Place) -> Place:
    """Return the place of a touch that is going on."""
    return joined(home, f"{TOUCHES}/{WORK}")


def mask_name(sha256: str) -> str:
    """Return the name of a painted mask's copy in a run's home."""
    return f"{TOUCHES}/mask-{sha256}"


def discard_touches(home: Place, *, masks: bool) -> None:
    """Remove what touches have left in a run's home; masks only if said, as touches are done again with them."""
    storage = open_storage(home, patient=not isinstance(home, str))
    for name in storage.children(TOUCHES):
        if _CANVAS_NAME.fullmatch(name):
            index = "manifest.json" if name == WORK else "zarr.json"
            if storage.info(f"{TOUCHES}/{name}/{index}") is not None:
                storage.remove_tree(f"{TOUCHES}/{name}")
        elif masks and _MASK_NAME.fullmatch(name):
            storage.remove(f"{TOUCHES}/{name}")


def earlier_touches(record: Mapping[str, Any]) -> dict[str, RecordedTouches]:
    """Return what the record of a canvas that is dreamed anew keeps of touches: they all wait to be done again."""
    stored: RecordedTouches | None = record.get(TOUCHES)
    if not stored:
        return {}
    waiting = [*stored["applied"], *stored.get("waiting", ())]
    return {TOUCHES: {"canvas": stored["canvas"], "applied": [], "pending": "", "waiting": waiting}}


def touch_settings(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a picture's metadata says of the touches of its canvas, without names of files."""
    stored = record.get(TOUCHES)
    applied = stored["applied"] if isinstance(stored, Mapping) else []
    return [{"box": touch["box"], "to": touch["to"], "key": touch["key"][:16]} for touch in applied]
