"""Command `touch run=DIR box=X,Y,W,H [key=value ...]`: dream a part of a finished canvas again, or take it back."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.options import check_switches, split_words
from render.errors import UserError
from render.storage.url import Place, checked_url
from render.storage.user_paths import user_path
from render.system import interrupts
from render.terminal.document import Document
from render.touch.boxes import USUAL_FEATHER
from render.touch.touch_settings import ALLOWED, GROUPS, touch_config

# Modules that need JAX are imported by the functions, so that a wrong word is refused before.

_OPTIONS = {"run": "", "box": "", "mask": "", "to": "dream", "feather": USUAL_FEATHER, "undo": "false", "replay": ""}
_TARGETS = ("dream", "source")
#: Words about how the command runs, for the run's pictures as well.
_PICTURE_KEYS = ("overwrite=", "quiet=", "log=")


def touch_command(words: Sequence[str]) -> int:
    """Touch the run that `run=DIR` names, and print the places of its pictures."""
    options, others = _checked(words)
    from render.job.progress import say
    from render.job.report import start_logging

    place, picture_words = _place(options["run"], "run"), _picture_words(others)
    quiet = "quiet=true" in others
    start_logging(quiet=quiet)
    interrupts.hold()
    pictures = _touch(options, place, others, picture_words)
    say(*map(str, pictures), quiet=quiet)
    interrupts.check()
    return 0


def is_touch(words: Sequence[str]) -> bool:
    """Return whether the words of a plan, which is not of a film, are those of a touch: pictures have no `run`."""
    return any(word.startswith("run=") for word in words)


def plan_touch(words: Sequence[str]) -> Document:
    """Return what a touch would compute and need."""
    options, others = _checked(words)
    if not (options["box"] or options["mask"]):
        raise UserError("a plan of a touch needs box=x,y,width,height or mask=FILE: undo and replay have none")
    from render.job.report import start_logging
    from render.touch.draft import TouchWords, draft_touch, open_touch
    from render.touch.touch_plan import source_plan, touch_plan
    from render.touch.touched_run import open_touched

    start_logging(quiet=True)
    run = open_touched(_place(options["run"], "run"), _picture_words(others))
    area_words = TouchWords(options["box"], options["mask"], options["feather"], options["to"])
    config = run.config if area_words.to == "source" else touch_config(run.record, others)
    touch = open_touch(run, config, area_words)
    return source_plan(touch) if touch.to == "source" else touch_plan(draft_touch(touch))


def _touch(options: dict[str, str], place: Place, others: Sequence[str], picture_words: Sequence[str]) -> list[Place]:
    """Do what the options say, and return the places of the run's pictures."""
    from render.touch.draft import TouchWords, open_touch
    from render.touch.replaying import replay_touches
    from render.touch.touched_run import open_touched
    from render.touch.touching import apply_touch, undo_touch

    if options["undo"] == "true":
        return undo_touch(open_touched(place, picture_words))
    if options["replay"]:
        origin = None if options["replay"] == "true" else _place(options["replay"], "replay")
        return replay_touches(place, origin, others, picture_words)
    run = open_touched(place, picture_words)
    area_words = TouchWords(options["box"], options["mask"], options["feather"], options["to"])
    config = run.config if area_words.to == "source" else touch_config(run.record, others)
    return apply_touch(open_touch(run, config, area_words))


def _checked(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options, and the words of the config; raise `UserError` for words that contradict each other."""
    options, others = split_words(words, _OPTIONS)
    for word in others:
        if not word.lstrip("+").startswith((*ALLOWED, *(f"{group}=" for group in GROUPS))):
            raise UserError(
                f"touch does not know {word[:100]!r}: give it run=DIR, box= or mask=, and keys such as step_size=1"
            )
    if not options["run"]:
        raise UserError("touch needs one run=DIR, such as run=dreams/poster-1a2b3c4d")
    check_switches(options, ["undo"])
    if options["to"] not in _TARGETS:
        raise UserError(f"to={options['to']}: must be dream or source")
    deeds = [key for key in ("box", "mask", "replay") if options[key]] + (["undo"] if options["undo"] == "true" else [])
    if not deeds:
        raise UserError("touch needs box=x,y,width,height or mask=FILE (or undo=true, or replay=true)")
    if len(deeds) > 1:
        raise UserError(f"{deeds[0]}= and {deeds[1]}= are two different things: say one of them")
    foreign = [word for word in others if not word.startswith((*_PICTURE_KEYS, "farm."))]
    if foreign and (options["undo"] == "true" or options["to"] == "source"):
        raise UserError(f"{foreign[0].partition('=')[0]} means nothing where nothing is dreamed: drop it")
    return options, others


def _picture_words(words: Sequence[str]) -> list[str]:
    return [word for word in words if word.startswith(_PICTURE_KEYS)]


def _place(name: str, key: str) -> Place:
    return checked_url(name, key) or user_path(name, key)
