"""Commands `models`, `objectives`, `looks` and `classes`: print what a user can choose from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from render.config.schema import ModelConfig
from render.dreaming.terms import KINDS
from render.errors import UserError
from render.job.looks import looks
from render.job.resolve import NetworkChoice
from render.networks.labels import class_names, describe_classes
from render.networks.nodes import Conv
from render.networks.weights import MODELS
from render.system.paths import shipped_configs
from render.terminal.console import plain_console
from render.terminal.lines import print_lines


def models_command(_words: Sequence[str]) -> int:
    """Print every network's layers with kind, channels, stride and receptive field."""
    console = plain_console()
    for name, model in MODELS.items():
        title = f"{name} (weights: {model.published.sources[0].name}; {describe_classes(name)})"
        table = Table(title=title, title_justify="left")
        table.add_column("layer")
        table.add_column("kind")
        for heading in ("channels", "stride", "receptive field"):
            table.add_column(heading, justify="right")
        for layer in model.architecture.layers.values():
            if isinstance(layer.node, Conv):
                rows, columns = layer.node.kernel
                kind = f"conv {rows}x{columns}"
            else:
                kind = layer.kind.lower()
            table.add_row(layer.name, kind, str(layer.channels), str(layer.stride), str(layer.receptive_field))
        console.print(table)
    return 0


def objectives_command(_words: Sequence[str]) -> int:
    """Print every kind of objective term with examples, then the presets in conf/objective."""
    console = plain_console()
    table = Table(title="terms, for objective.terms=[...]; a weight goes before the star", title_justify="left")
    for heading in ("kind", "what there will be more of", "such as"):
        table.add_column(heading)
    for kind in KINDS:
        table.add_row(kind.kind, kind.about, "\n".join(kind.examples))
    console.print(table)
    table = Table(title="presets: objective=NAME", title_justify="left")
    table.add_column("name")
    table.add_column("what it is")
    for path in sorted((shipped_configs() / "objective").glob("*.yaml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        table.add_row(path.stem, first.removeprefix("# "))
    console.print(table)
    return 0


def looks_command(_words: Sequence[str]) -> int:
    """Print every look with its network and objective, and whether its weights are here."""
    console = plain_console()
    table = Table(title="looks: look=NAME, or look=auto for the best with the weights here", title_justify="left")
    for heading in ("name", "what it shows", "network", "objective", "weights"):
        table.add_column(heading, overflow="fold")
    for look in looks():
        place = "on this machine" if look.has_weights else f"make weights model={look.model}"
        table.add_row(look.name, look.about, look.model, look.objective, place)
    console.print(table)
    return 0


def classes_command(words: Sequence[str]) -> int:
    """Print the classes of a network, or those with a text in their name."""
    options = dict(word.partition("=")[::2] for word in words)
    unknown_keys = sorted(options.keys() - {"model", "words", "model.weights", "model.labels"})
    if unknown_keys:
        raise UserError(
            f"classes takes model=NAME, words=TEXT, model.weights=FILE and model.labels=FILE, not {unknown_keys[0]!r}"
        )
    model, weights, labels = (options.get(key) for key in ("model", "model.weights", "model.labels"))
    model = model or "googlenet"
    section = ModelConfig(name=model, weights=weights, labels=labels)
    text = options.get("words", "").lower()
    names_by_class = class_names(NetworkChoice.of(section).classifier)
    classes = [(number, ", ".join(names)) for number, names in enumerate(names_by_class)]
    matches = [(number, names) for number, names in classes if text in names.lower()]
    if not matches:
        raise UserError(f"no class of {model} has {text!r} in its name")
    print_lines(*(f"{number:4d}  {names}" for number, names in matches))
    return 0
