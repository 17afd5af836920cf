"""Schema of `conf/atlas.yaml`: the content of an atlas and the settings of its pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from render.config.schema import (
    Config,
    FarmConfig,
    ModelConfig,
    ObjectiveConfig,
    OctavesConfig,
    OutputConfig,
)
from render.config.validation import require, validate
from render.errors import UserError

#: Largest side of a channel's picture, px, most steps, and most crops of a step. All are far beyond useful values.
_LARGEST, _MOST_STEPS, _MOST_CROPS = 8192, 1_000_000, 256
#: Ways to draw a channel's picture.
METHODS = ("ascent", "maco")
_RANGE = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?", re.ASCII)


@dataclass
class TransformsConfig:
    """Random transforms of a channel's picture at every step; 0 switches one off.

    `jitter` is in px, `scale` a fraction of the size, `rotate` in degrees.
    """

    jitter: int = 8
    scale: float = 0.1
    rotate: float = 10.0


@dataclass
class MacoConfig:
    """Settings of `method: maco`.

    `rate` is the learning rate of the phases, in radians, at the first step; at the last it is `decay` times that. A step
    sees `crops` random squares of the picture, resampled to `view` px; their sides are between the two values of `box`, as
    shares of the picture's. `noise` is the standard deviation of the noise on each crop, as a share of the range of pixels,
    and `contrast` that of the picture before the sigmoid. `mask` makes what the network does not look at transparent.
    """

    crops: int = 8
    view: int = 192
    box: list[float] = field(default_factory=lambda: [0.4, 0.9])
    noise: float = 0.05
    rate: float = 1.0
    decay: float = 0.05
    contrast: float = 2.0
    mask: bool = False


@dataclass
class AtlasOutputConfig:
    """Output of an atlas: `width` of the ladder's pictures, px, and `columns`, the pictures per row of a sheet."""

    dir: str | None = None
    width: int = 320
    columns: int | None = None


@dataclass
class AtlasConfig:
    """One atlas: pictures of the channels of `layer`, of `classes`, or of every layer in turn (the ladder)."""

    name: str | None = None
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    layer: str | None = None
    channels: Any = None
    classes: Any = None
    method: str = "ascent"
    neuron: bool = False
    size: int = 160
    steps: int = 128
    rate: float = 0.05
    transforms: TransformsConfig = field(default_factory=TransformsConfig)
    maco: MacoConfig = field(default_factory=MacoConfig)
    layers: list[str] | None = None
    image: str = "sample:chelsea"
    octaves: OctavesConfig = field(default_factory=lambda: OctavesConfig(count=4, steps=20))
    step_size: float = 1.5
    output: AtlasOutputConfig = field(default_factory=AtlasOutputConfig)
    farm: FarmConfig = field(default_factory=FarmConfig)
    fresh: bool = False
    quiet: bool = False

    @property
    def title(self) -> str:
        """Name of the atlas: `name`, or else one made of the model, the layer and a method other than ascent."""
        subject = "classes" if self.classes is not None else self.layer or "ladder"
        suffix = "" if self.method == "ascent" else f"-{self.method}"
        return self.name or f"{self.model.name}-{subject}{suffix}".replace("/", "_")


def validate_atlas(config: AtlasConfig) -> AtlasConfig:
    """Return the same config. Raise `UserError` for the first invalid value."""
    _check_subject(config)
    require(1 <= config.size <= _LARGEST, "size", config.size, f"must be from 1 to {_LARGEST} px")
    require(1 <= config.steps <= _MOST_STEPS, "steps", config.steps, f"must be from 1 to {_MOST_STEPS:,}")
    require(0 < config.rate <= 10, "rate", config.rate, "must be above 0 and at most 10 (0.05 is usual)")
    _check_transforms(config.transforms)
    _check_maco(config.maco)
    columns = config.output.columns
    require(columns is None or 1 <= columns <= 1000, "output.columns", columns, "must be null or from 1 to 1000")
    # The rules of a dream job check the keys that both kinds of config have.
    validate(rung_config(config, config.title, "layer", None))
    return config


def _check_subject(config: AtlasConfig) -> None:
    """Raise `UserError` unless the keys name one kind of picture: channels, classes or a ladder."""
    if config.classes is not None and (config.layer is not None or config.channels is not None):
        key = "layer" if config.layer is not None else "channels"
        raise UserError(f"classes={class_text(config.classes)} and {key}={getattr(config, key)}: drop one of them")
    if config.layer is None and config.channels is not None:
        raise UserError(f"channels={config.channels}: of which layer? Name one, such as layer=mixed4")
    if config.layer is not None and config.layers is not None:
        raise UserError(
            f"layer={config.layer} and layers={config.layers}: drop one of them (layers are those of the ladder)"
        )
    if config.layers is not None:
        require(len(config.layers) > 0, "layers", "[]", "is empty: name at least one, or null for every block")
        require(len(set(config.layers)) == len(config.layers), "layers", config.layers, "names a layer twice")
    channel_ranges(config.channels)
    class_words(config.classes)
    if config.method not in METHODS:
        raise UserError(f"method={config.method}: must be {' or '.join(METHODS)}")
    if config.method != "ascent" and config.layer is None and config.classes is None:
        raise UserError(
            f"method={config.method} draws channels or classes: name some, such as layer=mixed4 or classes=[goldfish]"
        )
    if config.method != "ascent" and config.neuron:
        raise UserError(f"neuron=true and method={config.method}: crops have no middle neuron; drop one of them")


def _check_transforms(transforms: TransformsConfig) -> None:
    """Raise `UserError` for the first invalid value."""
    require(0 <= transforms.jitter <= _LARGEST, "transforms.jitter", transforms.jitter, "must be 0 (off) or more px")
    require(
        0 <= transforms.scale <= 0.9,
        "transforms.scale",
        transforms.scale,
        "must be from 0 (off) to 0.9, a part of the size",
    )
    require(0 <= transforms.rotate <= 180, "transforms.rotate", transforms.rotate, "must be from 0 (off) to 180 degrees")


def _check_maco(maco: MacoConfig) -> None:
    """Raise `UserError` for the first invalid value."""
    require(1 <= maco.crops <= _MOST_CROPS, "maco.crops", maco.crops, f"must be from 1 to {_MOST_CROPS}")
    require(1 <= maco.view <= _LARGEST, "maco.view", maco.view, f"must be from 1 to {_LARGEST} px")
    is_range = len(maco.box) == 2 and 0.02 <= maco.box[0] <= maco.box[1] <= 1
    require(is_range, "maco.box", maco.box, "must be two shares of the side, from 0.02 to 1, such as [0.4,0.9]")
    require(0 <= maco.noise <= 1, "maco.noise", maco.noise, "must be from 0 (off) to 1, a share of the range of pixels")
    require(0 < maco.rate <= 10, "maco.rate", maco.rate, "must be above 0 and at most 10 (1 is usual)")
    require(0 < maco.decay <= 1, "maco.decay", maco.decay, "must be above 0 and at most 1 (no decay)")
    require(0 < maco.contrast <= 20, "maco.contrast", maco.contrast, "must be above 0 and at most 20 (2 is usual)")


def rung_config(config: AtlasConfig, name: str, layer: str, directory: str | None) -> Config:
    """Return the dream job of one rung of the ladder.

    Args:
        config: The atlas.
        name: Name of the job.
        layer: Layer to dream.
        directory: Run directory; None for the default.
    """
    return Config(
        name=name,
        seed=config.seed,
        image=config.image,
        model=config.model,
        objective=ObjectiveConfig([layer]),
        octaves=config.octaves,
        step_size=config.step_size,
        output=OutputConfig(dir=directory, width=config.output.width),
        farm=config.farm,
        fresh=config.fresh,
        quiet=True,
    )


def channel_ranges(written: object) -> tuple[tuple[int, int], ...] | None:
    """Return (first, last) of every range in a config's `channels`, or None for all channels of a layer.

    Ranges are `5` or `0-63`, in a list or in a text that separates them by commas or plus signs. Raises `UserError` if one
    is not valid.
    """
    if written is None:
        return None
    words = written if isinstance(written, list | tuple) else re.split(r"[,+]", str(written).strip().strip("[]"))
    ranges = []
    for word in words:
        match = _RANGE.fullmatch(str(word).strip())
        if match is None or isinstance(word, bool):
            empty = not str(word).strip()
            problem = "is empty" if empty else "is not a range"
            raise UserError(f"channels={written}: {str(word).strip()!r} {problem}; write 0-63, or 3,12,40-47")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"channels={written}: {first}-{last} runs backwards; write {last}-{first}")
        ranges.append((first, last))
    if not ranges:
        raise UserError("channels is empty: write 0-63, or null for all of the layer")
    return tuple(ranges)


def class_words(written: object) -> tuple[str, ...] | None:
    """Return the names or indices of a config's `classes`, or None. Raise `UserError` if it is empty."""
    if written is None:
        return None
    words = tuple(str(word).strip() for word in (written if isinstance(written, list | tuple) else [written]))
    if not words or not all(words):
        raise UserError("classes names none, or an empty one: write classes=[dumbbell,goldfish]")
    return words


def class_text(written: object) -> str:
    """Return a config's `classes` as it is written on a command line."""
    return f"[{','.join(class_words(written) or ())}]"


def ranges_text(channels: Sequence[int]) -> str:
    """Return ascending channels as text for a config, such as `0-4,12`."""
    ranges: list[list[int]] = []
    for channel in channels:
        if ranges and channel == ranges[-1][1] + 1:
            ranges[-1][1] = channel
        else:
            ranges.append([channel, channel])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def chosen_channels(written: object, layer: str, channels: int) -> tuple[int, ...]:
    """Return the channels that a config selects, ascending and without duplicates.

    Args:
        written: The config's `channels`.
        layer: Name of the layer, for messages.
        channels: Number of channels of the layer.

    Raises:
        UserError: The layer does not have one of the channels.
    """
    selection: set[int] = set()
    for first, last in channel_ranges(written) or ((0, channels - 1),):
        if last >= channels:
            raise UserError(f"channels={written}: {layer} has channels 0 to {channels - 1}, not {last}")
        selection |= set(range(first, last + 1))
    return tuple(sorted(selection))
