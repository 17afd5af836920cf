"""Schedule of a dreamed film: the objectives of all its frames, and the stages of each. Pure but for the materials.

A frame between two dreams has one objective with the terms of both, weighted by how near it is to each. Weights are inputs
of compiled kernels, so nothing is compiled while one dream becomes another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace

from render.dreaming.objectives import Objective
from render.dreaming.stage import Conditioning, Stage
from render.dreaming.term_base import Term
from render.film.dreamed.timeline import Crossfade, FrameSettings
from render.planning.schedule import Schedule

#: Settings of conditioning that are numbers to interpolate; others change half-way.
_NUMBERS = ("smoothing", "total_variation", "pull", "decorrelate", "shoulder")

#: A region of the canvas, by its position, and the terms of its objective without their weights.
_Slot = tuple[int, tuple[Term, ...]]


class FilmSchedule:
    """Objectives and stages of a film's later frames.

    Attributes:
        objectives: All objectives that any frame has, those of the first frame first; later ones with weights of 1.
    """

    def __init__(self, first: Schedule, dreams: Sequence[Schedule]) -> None:
        """Collect the objectives.

        Args:
            first: Schedule of the first frame.
            dreams: Schedule of each dream for later frames, with the same regions and numbers of octaves.
        """
        self._dreams = tuple(dreams)
        self._slots: dict[_Slot, int] = {}
        numbers = range(len(dreams))
        pairs = [(number, number) for number in numbers] + list(zip(numbers, numbers[1:], strict=False))
        for before, after in pairs:
            for octave in range(self.octaves):
                for position, objectives in enumerate(self._objectives(before, after, octave)):
                    slot = position, _merged_terms(*objectives)
                    self._slots.setdefault(slot, len(first.objectives) + len(self._slots))
        self.objectives = (*first.objectives, *(Objective(terms) for _, terms in self._slots))

    @property
    def octaves(self) -> int:
        """Number of octaves of every frame."""
        return len(self._dreams[0].stages)

    @property
    def identity(self) -> str:
        """Text that distinguishes films: what every dream is, with the content of the pictures that it looks at."""
        return json.dumps([[str(dream), dream.content, *map(repr, dream.stages)] for dream in self._dreams])

    def frame(self, settings: FrameSettings) -> tuple[tuple[Stage, ...], tuple[Objective, ...]]:
        """Return a frame's stages, coarse to fine, and all objectives with the weights that its own have."""
        objectives = list(self.objectives)
        stages = []
        for octave in range(self.octaves):
            stage = self._stage(settings, octave)
            regions = []
            for position, region in enumerate(stage.regions):
                objective = self._objective(settings.dream, octave, position)
                number = self._slots[position, tuple(replace(term, weight=1.0) for term in objective.terms)]
                objectives[number] = objective
                regions.append(replace(region, objective=number))
            stages.append(replace(stage, regions=tuple(regions)))
        return tuple(stages), tuple(objectives)

    def all_stages(self) -> tuple[tuple[Stage, ...], ...]:
        """Return the stages of every dream, and of one frame between any two that follow each other."""
        numbers = range(len(self._dreams))
        fades = [Crossfade(number, number, 0.0) for number in numbers]
        fades += [Crossfade(number, number + 1, 0.5) for number in numbers[:-1]]
        return tuple(self.frame(FrameSettings(0.0, 0.0, fade, None, None))[0] for fade in fades)

    def _stage(self, settings: FrameSettings, octave: int) -> Stage:
        """Return the stage of an octave between two dreams, with the regions of the first."""
        first, second, share = settings.dream
        stage = blended_stage(self._dreams[first].stages[octave], self._dreams[second].stages[octave], share)
        return replace(
            stage,
            steps=stage.steps if settings.steps is None else settings.steps,
            step_size=stage.step_size if settings.step_size is None else settings.step_size,
        )

    def _objective(self, fade: Crossfade, octave: int, position: int) -> Objective:
        before, after = self._objectives(fade.first, fade.second, octave)[position]
        return blended_objective(before, after, fade.share)

    def _objectives(self, before: int, after: int, octave: int) -> list[tuple[Objective, Objective]]:
        """Return for each region its objectives in two dreams."""
        first, second = self._dreams[before], self._dreams[after]
        return [
            (first.objectives[old.objective], second.objectives[new.objective])
            for old, new in zip(first.stages[octave].regions, second.stages[octave].regions, strict=True)
        ]


def blended_objective(first: Objective, second: Objective, share: float) -> Objective:
    """Return an objective between two: the terms of both, with weights relative to the largest of each.

    Args:
        first: The objective at share 0.
        second: The objective at share 1.
        share: Share of the second, 0 to 1.
    """
    if share == 0 or first == second:
        return _weighted(_merged_terms(first, first), [(first, 1.0)])
    terms = _merged_terms(first, second)
    parts = [
        (objective, part / max(abs(term.weight) for term in objective.terms))
        for objective, part in ((first, 1.0 - share), (second, share))
    ]
    blended = _weighted(terms, parts)
    # Opposite dreams in equal parts have no direction between them.
    return blended if any(term.weight for term in blended.terms) else _weighted(terms, parts[:1])


def blended_stage(first: Stage, second: Stage, share: float) -> Stage:
    """Return the settings between two stages; what is no number changes half-way. Regions are those of the first."""
    nearer = (second if share >= 0.5 else first).conditioning
    values = {field.name: getattr(nearer, field.name) for field in fields(Conditioning)}
    for name in _NUMBERS:
        values[name] = _between(getattr(first.conditioning, name), getattr(second.conditioning, name), share)
    # Pairs of settings that exclude each other.
    if nearer.laplacian:
        values["smoothing"] = 0.0
    if nearer.luminance_only:
        values["decorrelate"] = 0.0
    return replace(
        first,
        steps=round(_between(first.steps, second.steps, share)),
        step_size=_between(first.step_size, second.step_size, share),
        jitter=second.jitter if share >= 0.5 else first.jitter,
        conditioning=Conditioning(**values),
    )


def _between(first: float, second: float, share: float) -> float:
    return first if share == 0 or first == second else first + (second - first) * share


def _weighted(terms: Sequence[Term], parts: Sequence[tuple[Objective, float]]) -> Objective:
    """Return an objective of terms, each with its weights in some objectives times the factor of each."""
    weights = dict.fromkeys(terms, 0.0)
    for objective, factor in parts:
        for term in objective.terms:
            weights[replace(term, weight=1.0)] += factor * term.weight
    return Objective(tuple(replace(term, weight=weight) for term, weight in weights.items()))


def _merged_terms(first: Objective, second: Objective) -> tuple[Term, ...]:
    """Return the terms of two objectives with weights of 1, each once."""
    return tuple(dict.fromkeys(replace(term, weight=1.0) for term in (*first.terms, *second.terms)))
