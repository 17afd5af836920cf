"""The class probe: dreams a class of the network's own, and asks the network what it sees, before and after.

A probe is a render like any other, with a question at its end. What the network is shown is the whole source, and the
whole canvas, shrunk or enlarged until the short side is as long as the network was trained for; where they are longer than
wide, it looks at all of them and takes the mean over positions, as its classifier does inside a square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from render.config.compose import load_config
from render.config.schema import Config
from render.dream.resample import Pixels, ReadPixels, resample
from render.errors import UserError, WorkersLost
from render.geometry.geometry import whole
from render.job import job as jobs
from render.job import report
from render.job.progress import say
from render.job.run_record import read_record
from render.models.labels import ClassName, class_names, find_class, top_classes
from render.storage.records import fits
from render.system import interrupts

_WORD = "class="
#: Whose answer is kept in `run.json`.
RECORD = "probe"
#: Side of what is resampled at once, px: under a gigapixel canvas that reads 200 MB.
_PART = 32


@dataclass(frozen=True)
class Guess:
    """What a network takes a picture for: a class, and its probability among all of them."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Sight:
    """What a network sees in a picture: its likeliest classes, best first, and where the class asked for stands.

    `rank` counts from 1; `probability` is that of the class asked for.
    """

    top: tuple[Guess, ...]
    rank: int
    probability: float


class _StoredGuess(TypedDict):
    name: str
    probability: float


class _StoredSight(TypedDict):
    top: list[_StoredGuess]
    rank: int
    probability: float


class _Asked(TypedDict):
    index: int
    name: str


class _Answer(TypedDict):
    """The record that `answer` returns, as it is read again."""

    asked: _Asked
    before: _StoredSight
    after: _StoredSight


def probe(root: str, words: Sequence[str]) -> None:
    """`probe class=NAME [key=value ...]`: dreams the class, prints what the network saw before and after, records it.

    Raises `UserError` for what cannot be probed, and whatever a render raises.
    """
    written, overrides = take_class(words)
    config, asked = aimed(load_config(root, overrides), written)
    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    draft = jobs.draft(config)
    directory = draft.directory
    known = read_record(directory.place).get(RECORD)
    if directory.is_finished() and isinstance(known, dict) and fits(known, _Answer) and known["asked"] == asdict(asked):
        say("already finished (fresh=true dreams it again)", quiet=config.quiet)
        _print(known, config)
        say(*map(str, jobs.make_again(draft)), quiet=config.quiet)
        return
    directory.check()
    directory.refuse_busy()
    jobs.say_resumption(draft)
    with jobs.prepared(draft) as job:
        _refuse_without_classifier(job)
        say(report.summary(job), quiet=config.quiet)
        pictures = jobs.render(job, lambda: {RECORD: answer(job, asked)})
        _print(directory.record[RECORD], config)
        say(report.finished(job), *map(str, pictures), quiet=config.quiet)


def take_class(words: Sequence[str]) -> tuple[str, list[str]]:
    """What the words ask for as `class=`, the last of them where there are several, and the other words."""
    classes = [word.removeprefix(_WORD).strip() for word in words if word.startswith(_WORD)]
    if not classes or not classes[-1]:
        raise UserError("probe needs a class: class=NAME, such as class=dumbbell, or its index")
    return classes[-1], [word for word in words if not word.startswith(_WORD)]


def aimed(config: Config, written: str) -> tuple[Config, ClassName]:
    """The config with the class for its objective, unless it names terms of its own, and the class that is meant.

    Raises `UserError` where there is no such class, or no classifier.
    """
    asked = find_class(written, config.model.name)
    if config.objective.terms is None:
        config.objective.terms = [{"class": asked.index}]
    return config, asked


def answer(job: jobs.Job, asked: ClassName) -> dict[str, Any]:
    """What the network sees in a job's source and in its canvas as stored, as plain data for the record."""
    shape = job.plan.final.shape
    views = [
        view(read, shape, job.loaded.architecture.native_side)
        for read in (lambda rect: job.source.at(shape, rect), job.directory.canvas().read)
    ]
    names = _names(job)
    before, after = (sight(scores, names, asked.index) for scores in _scores(job, views))
    return {"asked": asdict(asked), "before": asdict(before), "after": asdict(after)}


def view(read: ReadPixels, shape: tuple[int, int], side: int) -> Pixels:
    """A picture of `shape` (rows, columns) px as the network is shown it, its short side `side` px: float32 RGB, 0..255."""
    factor = side / min(shape)
    small = max(side, round(shape[0] * factor)), max(side, round(shape[1] * factor))
    shown = np.empty((*small, 3), np.float32)
    for rect in whole(*small).bands(_PART * _PART, _PART):
        shown[slice(*rect.rows), slice(*rect.columns)] = resample(read, shape, small, rect)
    return np.clip(shown, 0.0, 255.0, out=shown)


def sight(scores: NDArray[np.float32], names: Sequence[Sequence[str]], asked: int) -> Sight:
    """What the scores before softmax, (classes,), say; of equal ones the first is the likelier."""
    everything = [Guess(*guess) for guess in top_classes(scores, names, len(names))]
    rank = next(number for number, guess in enumerate(everything) if guess.index == asked)
    return Sight(tuple(everything[:5]), rank + 1, everything[rank].probability)


def table(known: Mapping[str, Any], model: str) -> Table:
    """A record of `answer` as a table."""
    made = Table(title=f"what {model} sees", title_justify="left")
    made.add_column("", justify="right")
    for when in ("before", "after"):
        made.add_column(when)
        made.add_column("", justify="right")
    for number, pair in enumerate(zip(known["before"]["top"], known["after"]["top"], strict=False)):
        cells = [cell for guess in pair for cell in (guess["name"], _percent(guess["probability"]))]
        made.add_row(str(number + 1), *cells)
    return made


def _refuse_without_classifier(job: jobs.Job) -> None:
    classifier = job.loaded.architecture.classifier
    if f"{classifier}/weight" not in job.loaded.parameters:
        raise UserError(
            f"model.weights={job.config.model.weights} has no {classifier}, without which nothing can be asked: take a "
            "file that has it"
        )


def _names(job: jobs.Job) -> Sequence[Sequence[str]]:
    """What classes are called; by number where the names cannot be had, as a class asked for by number may be."""
    try:
        return class_names(job.config.model.name)
    except UserError:
        return [(f"class {index}",) for index in range(job.loaded.architecture.classes)]


def _scores(job: jobs.Job, views: Sequence[Pixels]) -> list[NDArray[np.float32]]:
    """What a worker's network says: whoever conducts may be without JAX."""
    while True:
        try:
            (scores,) = job.executor.fetch([job.executor.call(0, "class_scores", views)])
            return list(scores)
        except WorkersLost:
            job.executor.mend()


def _print(known: Mapping[str, Any], config: Config) -> None:
    if config.quiet:
        return
    report.print_table(table(known, config.model.name))
    asked, places = known["asked"], [known[when] for when in ("before", "after")]
    before, after = (f"{_percent(place['probability'])}, rank {place['rank']:,}" for place in places)
    say(f"{asked['name']} ({asked['index']}): before {before}; after {after}", quiet=False)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"
