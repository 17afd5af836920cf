"""Looks of `conf/look`: what each needs, and the best one for the weights on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from render.config.compose import load_config
from render.config.hydra_text import hydra_text
from render.networks.weights import cached_path, find_model
from render.system.paths import shipped_configs

#: The look that suits most photographs, and the one that needs only weights from package registries.
_BEST_LOOK, _NEXT_LOOK = "pelt", "eyes"


@dataclass(frozen=True)
class Look:
    """A look: model, objective, conditioning and schedule that were chosen together.

    Attributes:
        name: Its name, a file in `conf/look`.
        about: What it shows, in a line.
        model: Network that it dreams with.
        objective: Terms of its objective on this network, as text.
        has_weights: True if the network's published weights are on this machine.
    """

    name: str
    about: str
    model: str
    objective: str
    has_weights: bool


def looks() -> tuple[Look, ...]:
    """Return all looks but `none`, sorted by name."""
    return tuple(
        _read(path.stem, path.read_text(encoding="utf-8").splitlines()[1].removeprefix("# "))
        for path in sorted((shipped_configs() / "look").glob("*.yaml"))
        if path.stem != "none"
    )


def best_look(words: Sequence[str] = ()) -> tuple[str, str]:
    """Return the name of the best look for the weights on this machine, and the reason in words.

    Args:
        words: Words `key=value` of the job, which may name a network and its weights.
    """
    model = load_config("preview", [f"look={_BEST_LOOK}"]).model.name
    if _has_weights(model, words):
        return _BEST_LOOK, f"{model}'s weights are on this machine"
    reason = f"the best without {model}'s weights; with them (make weights model={model}) it would be {_BEST_LOOK}"
    return _NEXT_LOOK, reason


def look_without(model: str) -> Look:
    """Return the best look of other models, one whose weights are here if there is one."""
    others = [look for look in looks() if look.model != model]
    return max(others, key=lambda look: (look.has_weights, look.name in (_BEST_LOOK, _NEXT_LOOK)))


def _has_weights(model: str, words: Sequence[str]) -> bool:
    """Return True if a model's weights are in the cache, or if the words name it and a file."""
    has_file = any(word.startswith("model.weights=") for word in words) and f"model={model}" in words
    return has_file or cached_path(find_model(model)).exists()


def _read(name: str, about: str) -> Look:
    config = load_config("preview", [f"look={name}"])
    model = find_model(config.model.name)
    terms = config.objective.terms or config.objective.by_model.get(config.model.name) or model.default_terms
    return Look(name, about, config.model.name, ", ".join(map(hydra_text, terms)), cached_path(model).exists())
