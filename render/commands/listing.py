"""Commands `models`, `objectives`, `looks` and `classes`: print what a user can choose from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from render.config.options import split_words, take_json
from render.config.schema import ModelConfig
from render.dreaming.terms import KINDS
from render.errors import UserError
from render.job.looks import looks
from render.job.resolve import NetworkChoice
from render.networks.architecture import Layer
from render.networks.labels import class_names, describe_classes
from render.networks.nodes import Conv
from render.networks.weights import MODELS
from render.system.paths import shipped_configs
from render.terminal.document import Column, Document, Table

_LAYER_COLUMNS = (
    Column("layer", lambda layer: layer["layer"]),
    Column("kind", lambda layer: layer["kind"]),
    Column("channels", lambda layer: str(layer["channels"]), is_number=True),
    Column("stride", lambda layer: str(layer["stride_px"]), is_number=True),
    Column("receptive field", lambda layer: str(layer["receptive_field_px"]), is_number=True),
)
_KIND_COLUMNS = (
    Column("kind", lambda kind: kind["kind"]),
    Column("what there will be more of", lambda kind: kind["about"]),
    Column("such as", lambda kind: "\n".join(kind["examples"])),
)
_PRESET_COLUMNS = (
    Column("name", lambda preset: preset["name"]),
    Column("what it is", lambda preset: preset["about"]),
)
_LOOK_COLUMNS = (
    Column("name", lambda look: look["name"]),
    Column("what it shows", lambda look: look["about"]),
    Column("network", lambda look: look["model"]),
    # Spaces let a long list go on in the next line.
    Column("objective", lambda look: re.sub(r",(?=\S)", ", ", look["objective"])),
    Column("weights", lambda look: "here" if look["has_weights"] else "not here"),
)


def models_command(words: Sequence[str]) -> int:
    """Print every network's layers with kind, channels, stride and receptive field."""
    as_json = _only_json("models", words)
    document = Document("models")
    models: list[dict[str, Any]] = []
    for name, model in MODELS.items():
        source = model.published.sources[0].name
        layers = [_layer_record(layer) for layer in model.architecture.layers.values()]
        document.table(Table(f"{name} (weights: {source}; {describe_classes(name)})", _LAYER_COLUMNS, layers))
        models.append({"name": name, "weights": source, "classes": model.architecture.classes, "layers": layers})
    document.values(models=models)
    document.print(as_json=as_json)
    return 0


def objectives_command(words: Sequence[str]) -> int:
    """Print every kind of objective term with examples, then the presets in conf/objective."""
    as_json = _only_json("objectives", words)
    document = Document("objectives")
    kinds = [{"kind": kind.kind, "about": kind.about, "examples": list(kind.examples)} for kind in KINDS]
    title = "terms, for objective.terms=[...]; a weight goes before the star"
    document.table(Table(title, _KIND_COLUMNS, kinds), key="kinds")
    presets = [
        {"name": path.stem, "about": path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")}
        for path in sorted((shipped_configs() / "objective").glob("*.yaml"))
    ]
    document.table(Table("presets: objective=NAME", _PRESET_COLUMNS, presets), key="presets")
    document.print(as_json=as_json)
    return 0


def looks_command(words: Sequence[str]) -> int:
    """Print every look with its network and objective, and whether its weights are here."""
    as_json = _only_json("looks", words)
    document = Document("looks")
    records = [
        {
            "name": look.name, "about": look.about, "model": look.model, "objective": look.objective,
            "has_weights": look.has_weights,
        }
        for look in looks()
    ]  # fmt: skip
    title = "looks: look=NAME, or look=auto for the best with the weights here"
    document.table(Table(title, _LOOK_COLUMNS, records), key="looks")
    for model in dict.fromkeys(look["model"] for look in records if not look["has_weights"]):
        document.sentence(f"make weights model={model} fetches the weights of {model}")
    document.print(as_json=as_json)
    return 0


def classes_command(words: Sequence[str]) -> int:
    """Print the classes of a network, or those with a text in their name."""
    as_json, other_words = take_json(words)
    options = dict(word.partition("=")[::2] for word in other_words)
    unknown_keys = sorted(options.keys() - {"model", "words", "model.weights", "model.labels"})
    if unknown_keys:
        raise UserError(
            "classes takes model=NAME, words=TEXT, model.weights=FILE, model.labels=FILE and json=true, "
            f"not {unknown_keys[0]!r}"
        )
    model, weights, labels = (options.get(key) for key in ("model", "model.weights", "model.labels"))
    model = model or "googlenet"
    section = ModelConfig(name=model, weights=weights, labels=labels)
    text = options.get("words", "").lower()
    names_by_class = class_names(NetworkChoice.of(section).classifier)
    classes: list[dict[str, Any]] = [
        {"index": index, "names": list(names)}
        for index, names in enumerate(names_by_class)
        if text in ", ".join(names).lower()
    ]
    if not classes:
        raise UserError(f"no class of {model} has {text!r} in its name")
    document = Document("classes")
    document.values(model=model, classes=classes)
    for record in classes:
        document.fact(f"{record['index']:4d}", ", ".join(record["names"]), indent=6)
    document.print(as_json=as_json)
    return 0


def _layer_record(layer: Layer) -> dict[str, Any]:
    """Return what the list says of a layer."""
    if isinstance(layer.node, Conv):
        rows, columns = layer.node.kernel
        kind = f"conv {rows}x{columns}"
    else:
        kind = layer.kind.lower()
    return {
        "layer": layer.name, "kind": kind, "channels": layer.channels, "stride_px": layer.stride,
        "receptive_field_px": layer.receptive_field,
    }  # fmt: skip


def _only_json(command: str, words: Sequence[str]) -> bool:
    """Return whether `json=true` asks for JSON. Raise `UserError` for any other word."""
    as_json, other_words = take_json(words)
    _, unknown_words = split_words(other_words, {})
    if unknown_words:
        raise UserError(f"{command} does not know {unknown_words[0]!r}: it takes json=true alone")
    return as_json
