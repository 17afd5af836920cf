"""Changes and crosses of lists of objective terms: their weights, layers and channels."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from render.dreaming.term_syntax import WEIGHT
from render.networks.architecture import Architecture
from render.networks.nodes import InceptionBlock
from render.sweeps.breeding.draws import Draws

_TERM = re.compile(WEIGHT + r"(?P<layer>[^:*\s]+)\s*(?::\s*(?P<channels>[\d\s,+-]+))?", re.ASCII)
#: Standard deviation of a weight's logarithm, and the weights of new terms.
_WEIGHT_SPREAD, _NEW_WEIGHTS = 0.6, (0.3, 0.5, 1.0)
#: Largest number of terms of a list that grows.
_MAX_TERMS = 4
#: Largest distance of a new layer from the old one, in layers of the same kind.
_MAX_LAYER_STEP = 2
#: Number of changes that are tried until one changes anything.
_MAX_TRIES = 12


@dataclass(frozen=True)
class _Term:
    """Term as text: weight, layer and channels, of which there may be none."""

    weight: float
    layer: str
    channels: tuple[int, ...] = ()

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"{self.weight:.2g}*"
        return f"{weight}{self.layer}" + (f":{'+'.join(map(str, self.channels))}" if self.channels else "")


def changed_terms(terms: Any, draws: Draws, network: Architecture | None) -> Any:
    """Return a list of terms with one change: of a weight, a layer, a channel, or of the number of terms.

    Args:
        terms: Value of `objective.terms`: a list of terms, or a list of lists with one for each octave.
        draws: Random numbers.
        network: The network, for the names of layers; None if it is unknown, so that only weights change.
    """
    if not isinstance(terms, list) or not terms:
        return terms
    if all(isinstance(octave, list) for octave in terms):
        number = draws.below(len(terms))
        return [*terms[:number], changed_terms(terms[number], draws, network), *terms[number + 1 :]]
    changes = (_reweighted, _moved, _with_other_channel, _extended, _reduced)
    for _ in range(_MAX_TRIES):
        changed = draws.pick(changes)(terms, draws, network)
        if changed != terms:
            return changed
    return terms


def crossed_terms(first: Any, second: Any, draws: Draws) -> Any:
    """Return a list of terms out of those of two lists."""
    lists = (first, second)
    if not all(isinstance(terms, list) and terms for terms in lists):
        return draws.pick(lists)
    by_octave = [all(isinstance(octave, list) for octave in terms) for terms in lists]
    if all(by_octave) and len(first) == len(second):
        return [draws.pick(pair) for pair in zip(first, second, strict=True)]
    if any(by_octave):
        return draws.pick(lists)
    # Terms that differ only in their weight are one, with the weight of either parent.
    choices: dict[str, list[Any]] = {}
    for term in (*first, *second):
        choices.setdefault(_identity(term), []).append(term)
    inherited = [draws.pick(terms) for terms in choices.values() if draws.happens(0.5)]
    inherited = inherited[: max(len(first), len(second), _MAX_TERMS)]
    return inherited or [draws.pick((*first, *second))]


def _identity(term: Any) -> str:
    """Return text that is equal for terms that differ in their weight alone."""
    if isinstance(term, Mapping):
        return json.dumps({key: value for key, value in term.items() if key != "weight"}, sort_keys=True, default=str)
    parsed = _parsed(term)
    return str(replace(parsed, weight=1)) if parsed else str(term)


def _reweighted(terms: list[Any], draws: Draws, _network: Architecture | None) -> list[Any]:
    factor = math.exp(_WEIGHT_SPREAD * draws.normal())

    def reweighted(term: Any) -> Any:
        if isinstance(term, Mapping):
            weight = term.get("weight", 1)
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
            return {**term, "weight": float(f"{weight * factor:.2g}")} if is_number else term
        parsed = _parsed(term)
        return str(replace(parsed, weight=parsed.weight * factor)) if parsed else term

    # With a single term weights have no effect: only their ratios count.
    return _with_change(terms, draws, reweighted) if len(terms) > 1 else terms


def _moved(terms: list[Any], draws: Draws, network: Architecture | None) -> list[Any]:
    """Return the terms with another layer in one of them: one that follows or precedes soon."""

    def with_near_layer(term: Any) -> Any:
        layer = term.get("layer") if isinstance(term, Mapping) else (_parsed(term) or _Term(1, "")).layer
        names = _alike(layer, network)
        if len(names) < 2:
            return term
        place = names.index(layer)
        step = (1 + draws.below(_MAX_LAYER_STEP)) * draws.pick((-1, 1))
        name = names[min(max(place + step, 0), len(names) - 1)]
        if isinstance(term, Mapping):
            return {**term, "layer": name}
        parsed = _parsed(term)
        assert parsed is not None and network is not None
        count = network.layer(name).channels
        channels = parsed.channels if name == layer else tuple(sorted({draws.below(count) for _ in parsed.channels}))
        return str(replace(parsed, layer=name, channels=channels))

    return _with_change(terms, draws, with_near_layer)


def _with_other_channel(terms: list[Any], draws: Draws, network: Architecture | None) -> list[Any]:
    """Return the terms with another channel in one of them; terms of whole layers are left alone."""

    def other(term: Any) -> Any:
        parsed = _parsed(term) if isinstance(term, str) else None
        if parsed is None or not parsed.channels or network is None or parsed.layer not in network.layers:
            return term
        channels = list(parsed.channels)
        channels[draws.below(len(channels))] = draws.below(network.layer(parsed.layer).channels)
        return str(replace(parsed, channels=tuple(dict.fromkeys(channels))))

    return _with_change(terms, draws, other)


def _extended(terms: list[Any], draws: Draws, network: Architecture | None) -> list[Any]:
    """Return the terms and one more, of a layer near one of them."""
    term = draws.pick(terms)
    layer = term.get("layer") if isinstance(term, Mapping) else (_parsed(term) or _Term(1, "")).layer
    names = _alike(layer, network)
    if len(terms) >= _MAX_TERMS or len(names) < 2:
        return terms
    step = (1 + draws.below(_MAX_LAYER_STEP)) * draws.pick((-1, 1))
    name = names[min(max(names.index(layer) + step, 0), len(names) - 1)]
    new_term = _Term(draws.pick(_NEW_WEIGHTS), name)
    if any(_identity(str(new_term)) == _identity(old) for old in terms):
        return terms
    return [*terms, str(new_term)]


def _reduced(terms: list[Any], draws: Draws, _network: Architecture | None) -> list[Any]:
    """Return the terms without one of them; a single term stays."""
    number = draws.below(len(terms))
    return [*terms[:number], *terms[number + 1 :]] if len(terms) > 1 else terms


def _with_change(terms: list[Any], draws: Draws, change: Callable[[Any], Any]) -> list[Any]:
    number = draws.below(len(terms))
    return [*terms[:number], change(terms[number]), *terms[number + 1 :]]


def _alike(layer: object, network: Architecture | None) -> Sequence[str]:
    """Return the layers of a network of the kind of `layer`, in order; none if it is no layer of the network."""
    if network is None or not isinstance(layer, str) or layer not in network.layers:
        return ()
    blocks = [node.name for node in network.nodes if isinstance(node, InceptionBlock)]
    return blocks if layer in blocks else list(network.layers)


def _parsed(term: Any) -> _Term | None:
    """Return a term of text; None for a class, a pattern of layers, or what is no term."""
    match = _TERM.fullmatch(term) if isinstance(term, str) else None
    if match is None or match["layer"] in ("class",) or match["layer"].startswith(("/", "{")):
        return None
    channels = match["channels"] or ""
    if "-" in channels:
        # A range of channels is one choice of its user: it is not taken apart.
        return None
    try:
        return _Term(float(match["weight"] or 1), match["layer"], tuple(map(int, re.findall(r"\d+", channels))))
    except ValueError:
        return None
