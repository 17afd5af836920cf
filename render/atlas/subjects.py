"""Subjects of an atlas: channels of a layer, or classes of the classifier, with their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from render.config.atlas_schema import AtlasConfig, chosen_channels, class_words, ranges_text
from render.config.hydra_text import hydra_text
from render.errors import UserError
from render.job.resolve import NetworkChoice
from render.networks.labels import Classifier, class_names, find_class


@dataclass(frozen=True)
class Subjects:
    """Channels or classes that an atlas draws.

    Attributes:
        model: name of the network.
        layer: name of the layer, or of the classifier.
        chosen: indices of channels or classes, ascending.
        total: number of channels or classes that there are.
        classes: True for classes.
        classifier: the classifier whose classes have names.
    """

    model: str
    layer: str
    chosen: tuple[int, ...]
    total: int
    classes: bool
    classifier: Classifier

    @property
    def noun(self) -> str:
        """Name of the subjects, in the plural."""
        return "classes" if self.classes else "channels"

    @property
    def title(self) -> str:
        """Heading of the atlas."""
        return f"{self.model} classes" if self.classes else f"{self.model} {self.layer}"

    def label(self, index: int) -> str:
        """Return the short name of a subject: a channel's number, a class' usual name."""
        return self._name(index) if self.classes else str(index)

    def describe(self, index: int) -> str:
        """Return the long name of a subject."""
        return f"{self._name(index)} ({index})" if self.classes else f"{self.layer}, channel {index}"

    def term(self, index: int) -> str:
        """Return the objective term that dreams of a subject."""
        return f"class:{index}" if self.classes else f"{self.layer}:{index}"

    def words(self, indices: Sequence[int], settings: Sequence[str]) -> list[str]:
        """Return the command-line words that choose `indices`, ascending, with the words of other settings."""
        if self.classes and len(indices) < self.total:
            return [f"classes={hydra_text(list(indices))}", *settings]
        channels = [f"channels={ranges_text(indices)}"] if len(indices) < self.total else []
        return [f"layer={self.layer}", *settings, *channels]

    def _name(self, index: int) -> str:
        return self._names[index] if self._names else f"class {index}"

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """The usual name of each class; empty if names are not available."""
        try:
            return tuple(names[0] for names in class_names(self.classifier))
        except UserError:
            # The user may have given the classes by their numbers.
            return ()


def subjects_of(config: AtlasConfig) -> Subjects:
    """Return the subjects that a config names.

    Raises:
        UserError: the network does not have the layer, a channel or a class, or its file or names cannot be read.
    """
    network = NetworkChoice.of(config.model)
    name, architecture, classifier = network.name, network.architecture, network.classifier
    words = class_words(config.classes)
    if words is not None:
        chosen = tuple(sorted({find_class(word, classifier).index for word in words}))
        return Subjects(name, architecture.classifier, chosen, architecture.classes, True, classifier)
    assert config.layer is not None
    if config.layer == architecture.classifier and architecture.classes:
        chosen = chosen_channels(config.channels, config.layer, architecture.classes)
        return Subjects(name, config.layer, chosen, architecture.classes, True, classifier)
    layer = architecture.layer(config.layer)
    chosen = chosen_channels(config.channels, layer.name, layer.channels)
    return Subjects(name, layer.name, chosen, layer.channels, False, classifier)
