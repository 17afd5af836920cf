"""Command `weights`: say where each network's weights are, fetch them, or check a file of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from render.errors import UserError
from render.job.report import start_logging
from render.networks.weights import MODELS, Loaded, Model, cached_path, find_model, is_published, keep, load
from render.storage.user_paths import input_path
from render.system import interrupts
from render.terminal.lines import print_lines

_KEYS = ("model", "model.weights")


def weights_command(words: Sequence[str]) -> int:
    """Print where weights are; with `model=`, fetch them, and with `model.weights=` check that file and keep it.

    Raises:
        UserError: The weights cannot be fetched, or the file does not fit the network.
    """
    options = dict(word.partition("=")[::2] for word in words)
    unknown_keys = sorted(options.keys() - set(_KEYS))
    if unknown_keys:
        raise UserError(f"weights takes model=NAME and model.weights=FILE, not {unknown_keys[0]!r}")
    if not options:
        print_lines(*(line for name in MODELS for line in _state(name)))
        return 0
    if "model" not in options:
        raise UserError("weights needs model=NAME with model.weights=FILE: say which network the file is for")
    name = options["model"]
    model = find_model(name)
    interrupts.hold()
    start_logging(quiet=False)
    if "model.weights" in options:
        print_lines(*_checked(name, model, input_path(options["model.weights"], "model.weights")))
    else:
        loaded = load(name)
        print_lines(f"{name}: {loaded.file}", f"  {_facts(loaded)}")
    return 0


def _state(name: str) -> Iterator[str]:
    """Yield lines that say where the published weights of a network are."""
    model = MODELS[name]
    path = cached_path(model)
    if path.is_file():
        yield f"{name}: {path}"
        return
    yield f"{name}: not here yet; `make weights model={name}` fetches the first of these that has them"
    for source in model.published.sources:
        yield f"  {source.name}"


def _checked(name: str, model: Model, path: Path) -> Iterator[str]:
    """Read a file of weights, keep it if it has the published ones, and yield lines about it."""
    loaded = load(name, path)
    yield f"{path} fits {name}"
    yield f"  {_facts(loaded)}"
    if is_published(loaded, model):
        cached = keep(model, loaded.parameters)
        yield f"  these are the published weights: kept as {cached}, so model={name} needs no file"
    else:
        yield f"  these are other weights than the published ones: use them with model={name} model.weights={path}"


def _facts(loaded: Loaded) -> str:
    """Return what a network's weights are, as text."""
    values = sum(array.size for array in loaded.parameters.values())
    classes = loaded.architecture.classes
    has_classifier = f"{loaded.architecture.classifier}/weight" in loaded.parameters
    class_text = f"{classes:,} classes" if classes and has_classifier else "no classifier"
    return f"{values:,} numbers, {class_text}, sha256 {loaded.sha256[:12]}"
