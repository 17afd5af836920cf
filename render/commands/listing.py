"""Commands `models`, `objectives` and `classes`: print what a user can choose from."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from render.dreaming.terms import KINDS
from render.errors import UserError
from render.networks.labels import class_names, describe_classes
from render.networks.nodes import Conv
from render.networks.weights import MODELS, find_model
from render.system.paths import shipped_configs
from render.terminal.console import plain_console
from render.terminal.lines import print_lines


def print_models() -> None:
    """Print every network's layers with kind, channels, stride and receptive field."""
    console = plain_console()
    for name, model in MODELS.items():
        title = f"{name} (weights: {model.published.source}; {describe_classes(name)})"
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


def print_objectives() -> None:
    """Print every kind of objective term, with its effect and examples, then the presets in conf/objective."""
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


def print_classes(given: Mapping[str, str]) -> None:
    """Print the classes of a `model`, or only those with `words` in their name. Raise `UserError` if there is none."""
    unknown = sorted(set(given) - {"model", "words"})
    if unknown:
        raise UserError(f"classes takes model=NAME and words=TEXT, not {unknown[0]!r}")
    model = given.get("model", "googlenet")
    find_model(model)
    words = given.get("words", "").lower()
    classes = [
        (number, ", ".join(names)) for number, names in enumerate(class_names(model)) if words in ", ".join(names).lower()
    ]
    if not classes:
        raise UserError(f"no class of {model} has {words!r} in its name")
    print_lines(*(f"{number:4d}  {names}" for number, names in classes))
