"""Atlas of a layer: a page and sheets of the pictures that excite its channels most."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from render.atlas.atlas_directory import CHANNELS, PAGE, AtlasDirectory
from render.atlas.channel_picture import ChannelPicture
from render.atlas.channel_recipe import ChannelRecipe
from render.atlas.channels import draw_channels
from render.atlas.display import AtlasProgress
from render.atlas.page import Entry, page
from render.atlas.setup import atlas_farm, atlas_path, changed_words, load_weights, model_words
from render.atlas.sheets import write_sheets
from render.config.atlas_schema import AtlasConfig, chosen_channels, ranges_text
from render.config.command_words import make_command
from render.config.hydra_text import hydra_text
from render.errors import UserError
from render.export.labelled_sheet import Cell
from render.export.metadata import Metadata
from render.export.picture import image_of, write_picture
from render.networks.architecture import Architecture
from render.networks.weights import Loaded, find_model
from render.pages.zoom_page import flat
from render.system import interrupts
from render.system.version import __version__

log = logging.getLogger(__name__)

#: Bytes that Ray stores besides the weights: small parts of the recipe, and pictures in transfer.
_STORED_BYTES = 150_000_000
#: Settings that decide a channel's picture, besides network and layer.
_PICTURE_KEYS = (
    "seed", "neuron", "size", "steps", "rate", "transforms.jitter", "transforms.scale", "transforms.rotate",
)  # fmt: skip
#: Text for a channel without a gradient.
_SILENT = "nothing excites it"


def make_channel_atlas(config: AtlasConfig) -> list[Path]:
    """Make the missing pictures of a layer's atlas; return the paths of its page and sheets."""
    assert config.layer is not None
    architecture = find_model(config.model.name).architecture
    layer = architecture.layer(config.layer)
    channels = chosen_channels(config.channels, layer.name, layer.channels)
    _refuse_small(config, architecture.truncated([layer.name]))
    loaded = load_weights(config)
    directory = AtlasDirectory(atlas_path(config), _settings(config, loaded), fresh=config.fresh)
    directory.check()
    with directory.opened():
        missing = [channel for channel in channels if not directory.has(_file(channel))]
        progress = AtlasProgress("channels", len(channels), len(channels) - len(missing), quiet=config.quiet)
        if missing and len(missing) < len(channels):
            progress.say(f"going on after {len(channels) - len(missing)} of {len(channels)} channels, which are drawn")
        try:
            if missing:
                _draw(config, loaded, directory, missing, progress)
            return _publish(config, directory, architecture, layer.name)
        except KeyboardInterrupt:
            drawn = sum(directory.has(_file(channel)) for channel in channels)
            raise KeyboardInterrupt(
                f"interrupted; {drawn} of {len(channels)} channels are drawn, and the same command goes on with the others"
            ) from None
        finally:
            progress.close()


def _draw(
    config: AtlasConfig, loaded: Loaded, directory: AtlasDirectory, channels: Sequence[int], progress: AtlasProgress
) -> None:
    """Draw channels and write each picture as soon as it arrives."""
    recipe = ChannelRecipe.of(config, loaded)
    weights = sum(array.nbytes for array in loaded.parameters.values())
    log.info("%s of %s: %d channels to draw", config.layer, config.model.name, len(channels))

    def warn(line: str) -> None:
        """Log a line and show it to the user."""
        log.warning(line)
        progress.say(line)

    # The first Ctrl-C is only noted; it is raised between two steps or while waiting, when no work is half done.
    with (
        interrupts.deferred(quiet=True),
        atlas_farm(config, _STORED_BYTES + round(1.2 * weights), progress) as farm,
        farm.lease() as executor,
    ):
        # The inline executor runs each call at once, so there is nothing to queue.
        queued = 1 if config.farm.executor == "inline" else 2
        for channel, picture in draw_channels(executor, recipe, channels, warn, queued):
            _store(config, directory, channel, picture)
            log.info("channel %d: activation %.4g of noise, %.4g of the picture", channel, picture.start, picture.end)
            progress.count(f"channel {channel}")


def _store(config: AtlasConfig, directory: AtlasDirectory, channel: int, picture: ChannelPicture) -> None:
    name = _file(channel)
    settings = {**directory.record["settings"], "channel": channel}
    write_picture(
        directory.path / name,
        image_of(picture.pixels),
        "png",
        Metadata(settings, f"{config.model.name} {config.layer}, channel {channel}"),
    )
    directory.add_picture(name, channel=channel, start=picture.start, end=picture.end, found=picture.has_gradient)


def _publish(config: AtlasConfig, directory: AtlasDirectory, architecture: Architecture, layer: str) -> list[Path]:
    """Write sheets and page of all drawn channels, also of earlier commands; return their paths."""
    recorded = {facts["channel"]: (name, facts) for name, facts in directory.pictures.items() if "channel" in facts}
    drawn = [(channel, *recorded[channel]) for channel in sorted(recorded) if directory.has(recorded[channel][0])]
    cells = [Cell(str(channel), "" if facts["found"] else _SILENT) for channel, _, facts in drawn]
    title = f"{config.model.name} {layer}"
    sheets = write_sheets(
        directory, title, _method_text(config), cells, [name for _, name, _ in drawn], config.output.columns
    )
    entries = [
        Entry(
            anchor=f"channel-{channel}",
            label=str(channel),
            title=f"{layer}, channel {channel}",
            picture=name,
            facts=_facts(facts),
            commands=(("Dream with this channel", _dream_command(config, layer, channel)),),
        )
        for channel, name, facts in drawn
    ]
    words = [*model_words(config), f"layer={layer}", *changed_words(config, _PICTURE_KEYS)]
    if len(drawn) < architecture.layer(layer).channels:
        words.append(f"channels={ranges_text([channel for channel, _, _ in drawn])}")
    origin_facts = [
        ("network", f"{config.model.name}, weights sha256 {directory.record['settings']['weights content'][:12]}"),
        ("layer", layer),
        ("shown", f"{len(drawn)} channels"),
        ("method", "gradient ascent from noise on a Fourier spectrum in decorrelated colours, by Adam"),
        ("settings", _method_text(config)),
        ("program", f"version {__version__}"),
    ]
    directory.write(
        PAGE, page(title, "channels", (config.size, config.size), entries, origin_facts, make_command("atlas", words))
    )
    directory.save(sheets=[path.name for path in sheets])
    return [directory.path / PAGE, *sheets]


def _method_text(config: AtlasConfig) -> str:
    """Return one line about how a layer's channels are drawn."""
    moves = config.transforms
    target = "the middle neuron" if config.neuron else "the whole channel"
    return (
        f"{target} from noise, {config.size} px, {config.steps} steps at rate {config.rate:g}, jitter {moves.jitter} px, "
        f"scale {moves.scale:g}, rotate {moves.rotate:g}\N{DEGREE SIGN}, seed {config.seed}"
    )


def _file(channel: int) -> str:
    return f"{CHANNELS}/channel-{channel}.png"


def _facts(facts: dict[str, Any]) -> str:
    if not facts["found"]:
        return f"{_SILENT}: no step had a gradient to follow, so this is still noise"
    return f"activation {facts['start']:.3g} of the noise, {facts['end']:.4g} of the picture"


def _dream_command(config: AtlasConfig, layer: str, channel: int) -> str:
    return make_command("render", [*model_words(config), f"objective.terms={hydra_text([f'{layer}:{channel}'])}"])


def _settings(config: AtlasConfig, loaded: Loaded) -> dict[str, Any]:
    """Return everything that decides a channel's picture."""
    settings = dict(flat(asdict(config)))
    return {key: settings[key] for key in ("model.name", "layer", *_PICTURE_KEYS)} | {
        "weights content": loaded.sha256,
        "program": __version__,
    }


def _refuse_small(config: AtlasConfig, architecture: Architecture) -> None:
    smallest_side = architecture.smallest_input()
    if config.size < smallest_side:
        raise UserError(f"size={config.size}: {config.layer} of {architecture.name} needs at least {smallest_side} px")
