"""Command `weights`: say where each network's weights are, fetch them, or check a file of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from render.config.options import take_json
from render.errors import UserError
from render.job.report import start_logging
from render.networks.weights import MODELS, Loaded, cached_path, find_model, is_published, keep, load
from render.storage.user_paths import input_path
from render.system import interrupts
from render.terminal.document import Document

_KEYS = ("model", "model.weights")


def weights_command(words: Sequence[str]) -> int:
    """Print where weights are; with `model=`, fetch them, and with `model.weights=` check that file and keep it.

    Raises:
        UserError: The weights cannot be fetched, or the file does not fit the network.
    """
    as_json, other_words = take_json(words)
    options = dict(word.partition("=")[::2] for word in other_words)
    unknown_keys = sorted(options.keys() - set(_KEYS))
    if unknown_keys:
        raise UserError(f"weights takes model=NAME, model.weights=FILE and json=true, not {unknown_keys[0]!r}")
    if not options:
        _places().print(as_json=as_json)
        return 0
    if "model" not in options:
        raise UserError("weights needs model=NAME with model.weights=FILE: say which network the file is for")
    name = options["model"]
    find_model(name)
    interrupts.hold()
    # What is fetched is told on standard output, which belongs to the document in JSON.
    start_logging(quiet=as_json)
    if "model.weights" in options:
        document = _checked(name, input_path(options["model.weights"], "model.weights"))
    else:
        document = Document("weights-file")
        loaded = load(name)
        document.sentence(f"{name}: {loaded.file}", model=name, file=_text(loaded.file), kept_as=_text(loaded.file))
        _add_facts(document, name, loaded)
    document.print(as_json=as_json)
    return 0


def _places() -> Document:
    """Return where the published weights of every network are, or come from."""
    document = Document("weights")
    networks: list[dict[str, Any]] = []
    for name, model in MODELS.items():
        path, sources = cached_path(model), [source.name for source in model.published.sources]
        is_here = path.is_file()
        networks.append({"model": name, "file": str(path) if is_here else None, "sources": sources})
        if is_here:
            document.sentence(f"{name}: {path}")
            continue
        document.sentence(f"{name}: not here yet; `make weights model={name}` fetches the first of these that has them")
        for source in sources:
            document.sentence(source, indent=2)
    document.values(networks=networks)
    return document


def _checked(name: str, path: Path) -> Document:
    """Read a file of weights, keep it if it has the published ones, and return what it is."""
    model, loaded = find_model(name), load(name, path)
    document = Document("weights-file")
    document.sentence(f"{path} fits {name}", model=name, file=str(path))
    _add_facts(document, name, loaded)
    if is_published(loaded, model):
        cached = keep(model, loaded.parameters)
        document.sentence(
            f"these are the published weights: kept as {cached}, so model={name} needs no file",
            indent=2,
            kept_as=str(cached),
        )
    else:
        document.sentence(
            f"these are other weights than the published ones: use them with model={name} model.weights={path}",
            indent=2, kept_as=None,
        )  # fmt: skip
    return document


def _add_facts(document: Document, name: str, loaded: Loaded) -> None:
    """Add what a network's weights are."""
    values = sum(array.size for array in loaded.parameters.values())
    has_classifier = f"{loaded.architecture.classifier}/weight" in loaded.parameters
    classes = loaded.architecture.classes if has_classifier else None
    class_text = f"{classes:,} classes" if classes else "no classifier"
    document.sentence(
        f"{values:,} numbers, {class_text}, sha256 {loaded.sha256[:12]}", indent=2, numbers=values, classes=classes or 0,
        sha256=loaded.sha256, is_published=is_published(loaded, find_model(name)),
    )  # fmt: skip


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
