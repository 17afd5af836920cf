"""Class probe: dreams a class of the network, and classifies the picture before and after.

A probe is a normal render with a classification at its end. The network is shown the whole source and the whole canvas,
resampled until the short side has the length that the network was trained for. On pictures that are not square it
takes the mean over all positions, as its classifier does inside a square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.config.schema import Config
from render.dreaming.resample import Pixels
from render.errors import UserError, WorkersLost
from render.job import job as jobs
from render.job import report
from render.job.progress import say
from render.job.resolve import NetworkChoice
from render.job.run_record import read_record
from render.networks.classification import ProbeRecord, sight
from render.networks.labels import ClassName, class_names, find_class
from render.probe.sight import sight_line, sight_table, view
from render.storage.records import fits
from render.system import interrupts
from render.terminal.document import print_table

#: Key of the answer in `run.json`.
RECORD = "probe"


def run_probe(config: Config, target: ClassName) -> None:
    """Dream a class; print and record what the network sees before and after.

    Args:
        config: the job, as `aim` returns it.
        target: the probed class.

    Raises:
        UserError: if the weights have no classifier.
        RenderError: every error that a render raises.
    """
    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    draft = jobs.draft(config)
    directory = draft.resolved.directory
    record = read_record(directory.place).get(RECORD)
    if (
        directory.is_finished()
        and isinstance(record, dict)
        and fits(record, ProbeRecord)
        and record["asked"] == asdict(target)
    ):
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


def aim(config: Config, class_text: str) -> tuple[Config, ClassName]:
    """Return the config and the class that `class_text` names.

    A config without terms gets the class as its objective. Raise `UserError` if there is no such class, or if the model
    has no classifier.
    """
    target = find_class(class_text, NetworkChoice.of(config.model).classifier)
    if config.objective.terms is None:
        config.objective.terms = [{"class": target.index}]
    return config, target


def answer(job: jobs.Job, target: ClassName) -> dict[str, Any]:
    """Classify a job's source and its stored canvas; return plain data for the record."""
    shape = job.plan.final.shape
    views = [
        view(read, shape, job.loaded.architecture.native_side)
        for read in (lambda rect: job.resolved.source.at(shape, rect), job.resolved.directory.canvas().read)
    ]
    names = _names(job)
    before, after = (sight(scores, names, target.index) for scores in _scores(job, views))
    return {"asked": asdict(target), "before": asdict(before), "after": asdict(after)}


def _refuse_without_classifier(job: jobs.Job) -> None:
    classifier = job.loaded.architecture.classifier
    if f"{classifier}/weight" not in job.loaded.parameters:
        raise UserError(
            f"model.weights={job.resolved.config.model.weights} has no {classifier}, without which nothing can be asked: "
            "take a file that has it"
        )


def _names(job: jobs.Job) -> Sequence[Sequence[str]]:
    """Return the names of the classes; numbers if names are not available."""
    try:
        return class_names(job.resolved.network.classifier)
    except UserError:
        # The user may have given the class by its number.
        return [(f"class {index}",) for index in range(job.loaded.architecture.classes)]


def _scores(job: jobs.Job, views: Sequence[Pixels]) -> list[NDArray[np.float32]]:
    """Return the scores of each view from a worker's network: the conductor may not have JAX."""
    while True:
        try:
            (scores,) = job.executor.fetch([job.executor.call(0, "class_scores", views)])
            return list(scores)
        except WorkersLost:
            job.executor.mend()


def _print(record: Mapping[str, Any], config: Config) -> None:
    if config.quiet:
        return
    print_table(sight_table(record, config.model.name))
    say(sight_line(record), quiet=False)
