"""Class probe: dreams a class of the network, and classifies the picture before and after.

A probe is a normal render with a classification at its end. The network is shown the whole source and the whole canvas,
resampled until the short side has the length that the network was trained for. On pictures that are not square it
takes the mean over all positions, as its classifier does inside a square.
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
from render.dreaming.resample import Pixels, ReadPixels, resample
from render.errors import UserError, WorkersLost
from render.geometry.geometry import whole
from render.job import job as jobs
from render.job import report
from render.job.progress import say
from render.job.run_record import read_record
from render.networks.labels import ClassName, class_names, find_class, top_classes
from render.storage.records import fits
from render.system import interrupts

_WORD = "class="
#: Key of the answer in `run.json`.
RECORD = "probe"
#: Side of the squares that are resampled one at a time, px. On a gigapixel canvas one of them reads 200 MB.
_PART = 32


@dataclass(frozen=True)
class Guess:
    """A class that a network sees in a picture, and its probability, 0..1, among all classes."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Sight:
    """Classification of a picture: the most likely classes, best first, and the place of the class asked for.

    `rank`, which counts from 1, and `probability`, 0..1, are those of the class asked for.
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
    """The record that `answer` returns, as it is read back from `run.json`."""

    asked: _Asked
    before: _StoredSight
    after: _StoredSight


def probe(root: str, words: Sequence[str]) -> None:
    """Run `probe class=NAME [key=value ...]`: dream the class, print and record what the network saw before and after.

    Raise `UserError` for models or classes that cannot be probed, and every error that a render raises.
    """
    class_word, overrides = take_class(words)
    config, target = aimed(load_config(root, overrides), class_word)
    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    draft = jobs.draft(config)
    directory = draft.resolved.directory
    record = read_record(directory.place).get(RECORD)
    if directory.is_finished() and isinstance(record, dict) and fits(record, _Answer) and record["asked"] == asdict(target):
        say("already finished (fresh=true dreams it again)", quiet=config.quiet)
        _print(record, config)
        say(*map(str, jobs.make_again(draft)), quiet=config.quiet)
        return
    directory.check()
    directory.refuse_busy()
    jobs.say_resumption(draft)
    with jobs.prepared(draft) as job:
        _refuse_without_classifier(job)
        say(report.summary(job), quiet=config.quiet)
        pictures = jobs.render(job, lambda: {RECORD: answer(job, target)})
        _print(directory.record[RECORD], config)
        say(report.finished(job), *map(str, pictures), quiet=config.quiet)


def take_class(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the value of `class=` (the last one, if there are several) and the other words."""
    classes = [word.removeprefix(_WORD).strip() for word in words if word.startswith(_WORD)]
    if not classes or not classes[-1]:
        raise UserError("probe needs a class: class=NAME, such as class=dumbbell, or its index")
    return classes[-1], [word for word in words if not word.startswith(_WORD)]


def aimed(config: Config, written: str) -> tuple[Config, ClassName]:
    """Return the config and the class that `written` names; a config without terms gets the class as its objective.

    Raise `UserError` if there is no such class, or if the model has no classifier.
    """
    target = find_class(written, config.model.name)
    if config.objective.terms is None:
        config.objective.terms = [{"class": target.index}]
    return config, target


def answer(job: jobs.Job, asked: ClassName) -> dict[str, Any]:
    """Classify a job's source and its stored canvas; return plain data for the record."""
    shape = job.plan.final.shape
    views = [
        view(read, shape, job.loaded.architecture.native_side)
        for read in (lambda rect: job.resolved.source.at(shape, rect), job.resolved.directory.canvas().read)
    ]
    names = _names(job)
    before, after = (sight(scores, names, asked.index) for scores in _scores(job, views))
    return {"asked": asdict(asked), "before": asdict(before), "after": asdict(after)}


def view(read: ReadPixels, shape: tuple[int, int], side: int) -> Pixels:
    """Return a picture of `shape` (rows, columns) px, resampled to a short side of `side` px: float32 RGB, 0..255."""
    factor = side / min(shape)
    view_shape = max(side, round(shape[0] * factor)), max(side, round(shape[1] * factor))
    pixels = np.empty((*view_shape, 3), np.float32)
    for rect in whole(*view_shape).bands(_PART * _PART, _PART):
        pixels[slice(*rect.rows), slice(*rect.columns)] = resample(read, shape, view_shape, rect)
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def sight(scores: NDArray[np.float32], names: Sequence[Sequence[str]], asked: int) -> Sight:
    """Return the classification for scores before softmax, (classes,); of equal scores the first ranks higher."""
    guesses = [Guess(*guess) for guess in top_classes(scores, names, len(names))]
    rank = next(number for number, guess in enumerate(guesses) if guess.index == asked)
    return Sight(tuple(guesses[:5]), rank + 1, guesses[rank].probability)


def table(known: Mapping[str, Any], model: str) -> Table:
    """Return the table that shows a record of `answer`."""
    grid = Table(title=f"what {model} sees", title_justify="left")
    grid.add_column("", justify="right")
    for when in ("before", "after"):
        grid.add_column(when)
        grid.add_column("", justify="right")
    for number, pair in enumerate(zip(known["before"]["top"], known["after"]["top"], strict=False)):
        cells = [cell for guess in pair for cell in (guess["name"], _percent(guess["probability"]))]
        grid.add_row(str(number + 1), *cells)
    return grid


def _refuse_without_classifier(job: jobs.Job) -> None:
    classifier = job.loaded.architecture.classifier
    if f"{classifier}/weight" not in job.loaded.parameters:
        raise UserError(
            f"model.weights={job.resolved.config.model.weights} has no {classifier}, without which nothing can be asked: "
            "take a file that has it"
        )


def _names(job: jobs.Job) -> Sequence[Sequence[str]]:
    """Return the names of the classes; numbers if the names are not available, as a class may be given by number."""
    try:
        return class_names(job.resolved.network.name)
    except UserError:
        return [(f"class {index}",) for index in range(job.loaded.architecture.classes)]


def _scores(job: jobs.Job, views: Sequence[Pixels]) -> list[NDArray[np.float32]]:
    """Return the scores of each view from a worker's network: the conductor may not have JAX."""
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
    target, sights = known["asked"], [known[when] for when in ("before", "after")]
    before, after = (f"{_percent(sight_record['probability'])}, rank {sight_record['rank']:,}" for sight_record in sights)
    say(f"{target['name']} ({target['index']}): before {before}; after {after}", quiet=False)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"
