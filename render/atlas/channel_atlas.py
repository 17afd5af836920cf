"""Atlas of a layer or of classes: a page and sheets of the pictures that excite channels or classes most."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from render.atlas.atlas_directory import CHANNELS, PAGE, AtlasDirectory
from render.atlas.channel_picture import ChannelPicture
from render.atlas.channel_recipe import ChannelRecipe
from render.atlas.channels import draw_channels
from render.atlas.display import AtlasProgress
from render.atlas.page import Entry, page
from render.atlas.setup import atlas_farm, atlas_path, changed_words, load_weights, model_words
from render.atlas.sheets import write_sheets
from render.atlas.subjects import Subjects, subjects_of
from render.config.atlas_schema import AtlasConfig
from render.config.command_words import make_command
from render.config.hydra_text import hydra_text
from render.errors import UserError
from render.export.labelled_sheet import Cell
from render.export.metadata import Metadata
from render.export.picture import image_of, write_picture
from render.networks.classification import ProbeRecord, sight
from render.networks.weights import Loaded, find_model
from render.pages.zoom_page import flat
from render.storage.records import fits
from render.system import interrupts
from render.system.version import __version__

log = logging.getLogger(__name__)

#: Bytes that Ray stores besides the weights: small parts of the recipe, and pictures in transfer.
_STORED_BYTES = 150_000_000
#: Settings that decide a channel's picture, besides network and layer.
_PICTURE_KEYS = (
    "seed", "neuron", "size", "steps", "rate", "transforms.jitter", "transforms.scale", "transforms.rotate",
)  # fmt: skip
#: The same for `method: maco`.
_MACO_KEYS = (
    "seed", "method", "size", "steps", "maco.crops", "maco.view", "maco.box", "maco.noise", "maco.rate", "maco.decay",
    "maco.contrast", "maco.mask",
)  # fmt: skip
#: Text for a channel without a gradient.
_SILENT = "nothing excites it"


def make_channel_atlas(config: AtlasConfig) -> list[Path]:
    """Make the missing pictures of an atlas; return the paths of its page and sheets."""
    subjects = subjects_of(config)
    return draw_missing(config, subjects)[1]


def draw_missing(config: AtlasConfig, subjects: Subjects) -> tuple[AtlasDirectory, list[Path]]:
    """Make the missing pictures of an atlas; return its directory, and the paths of its page and sheets."""
    _refuse_small(config, subjects)
    loaded = load_weights(config)
    _refuse_without_classifier(config, subjects, loaded)
    directory = AtlasDirectory(atlas_path(config), _settings(config, subjects, loaded), fresh=config.fresh)
    directory.check()
    chosen, noun = subjects.chosen, subjects.noun
    with directory.opened():
        missing = [index for index in chosen if not directory.has(picture_name(index))]
        progress = AtlasProgress(noun, len(chosen), len(chosen) - len(missing), quiet=config.quiet)
        if missing and len(missing) < len(chosen):
            progress.say(f"going on after {len(chosen) - len(missing)} of {len(chosen)} {noun}, which are drawn")
        try:
            if missing:
                _draw(config, subjects, loaded, directory, missing, progress)
            return directory, _publish(config, directory, subjects)
        except KeyboardInterrupt:
            drawn = sum(directory.has(picture_name(index)) for index in chosen)
            raise KeyboardInterrupt(
                f"interrupted; {drawn} of {len(chosen)} {noun} are drawn, and the same command goes on with the others"
            ) from None
        finally:
            progress.close()


def _draw(
    config: AtlasConfig,
    subjects: Subjects,
    loaded: Loaded,
    directory: AtlasDirectory,
    missing: Sequence[int],
    progress: AtlasProgress,
) -> None:
    """Draw channels or classes and write each picture as soon as it arrives."""
    recipe = ChannelRecipe.of(config, subjects.layer, loaded)
    weights = sum(array.nbytes for array in loaded.parameters.values())
    log.info("%s of %s: %d %s to draw", subjects.layer, subjects.model, len(missing), subjects.noun)

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
        for index, picture in draw_channels(executor, recipe, missing, warn, queued, config.farm.worker.batch):
            _store(directory, subjects, index, picture)
            log.info("channel %d: activation %.4g of noise, %.4g of the picture", index, picture.start, picture.end)
            progress.count(subjects.label(index) if subjects.classes else f"channel {index}")


def _store(directory: AtlasDirectory, subjects: Subjects, index: int, picture: ChannelPicture) -> None:
    """Write a picture, and record its facts."""
    name = picture_name(index)
    settings = {**directory.record["settings"], "channel": index}
    image = image_of(picture.pixels)
    if picture.mask is not None:
        rows, columns = picture.mask.shape
        image = image.bandjoin(pyvips.Image.new_from_memory(picture.mask.data, columns, rows, 1, "uchar"))
    write_picture(directory.path / name, image, "png", Metadata(settings, f"{subjects.model} {subjects.describe(index)}"))
    facts: dict[str, Any] = {
        "channel": index, "start": picture.start, "end": picture.end, "found": picture.has_gradient,
    }  # fmt: skip
    if picture.scores is not None:
        facts["sight"] = class_record(subjects, index, picture.scores)
    directory.add_picture(name, **facts)


def _publish(config: AtlasConfig, directory: AtlasDirectory, subjects: Subjects) -> list[Path]:
    """Write sheets and page of all drawn subjects, also of earlier commands; return their paths."""
    recorded = {facts["channel"]: (name, facts) for name, facts in directory.pictures.items() if "channel" in facts}
    drawn = [(index, *recorded[index]) for index in sorted(recorded) if directory.has(recorded[index][0])]
    cells = [Cell(subjects.label(index), "" if facts["found"] else _SILENT) for index, _, facts in drawn]
    method = _method_text(config, subjects)
    sheets = write_sheets(directory, subjects.title, method, cells, [name for _, name, _ in drawn], config.output.columns)
    purpose = f"Dream with this {'class' if subjects.classes else 'channel'}"
    entries = [
        Entry(
            anchor=f"channel-{index}",
            label=subjects.label(index),
            title=subjects.describe(index),
            picture=name,
            facts=_facts(facts),
            commands=((purpose, _dream_command(config, subjects.term(index))),),
        )
        for index, name, facts in drawn
    ]
    indices = [index for index, _, _ in drawn]
    words = [*model_words(config), *subjects.words(indices, changed_words(config, _keys(config)))]
    maco = "the phases of a picture with the magnitudes of photographs, by Nadam on random crops (MACO)"
    origin_facts = [
        ("network", f"{config.model.name}, weights sha256 {directory.record['settings']['weights content'][:12]}"),
        ("layer", subjects.layer),
        ("shown", f"{len(drawn)} {subjects.noun}"),
        (
            "method",
            maco
            if config.method == "maco"
            else "gradient ascent from noise on a Fourier spectrum in decorrelated colours, by Adam",
        ),
        ("settings", method),
        ("program", f"version {__version__}"),
    ]
    text = page(
        subjects.title, subjects.noun, (config.size, config.size), entries, origin_facts, make_command("atlas", words)
    )
    directory.write(PAGE, text)
    directory.save(sheets=[path.name for path in sheets])
    return [directory.path / PAGE, *sheets]


def class_record(subjects: Subjects, index: int, scores: Sequence[NDArray[np.float32]]) -> dict[str, Any]:
    """Return what the network saw in the starting noise and in a class' picture, as plain data for a record."""
    names = [(subjects.label(number),) for number in range(subjects.total)]
    sights = [asdict(sight(array, names, index)) for array in scores]
    # Lists, as JSON will have them.
    before, after = (facts | {"top": list(facts["top"])} for facts in sights)
    return {"asked": {"index": index, "name": subjects.label(index)}, "before": before, "after": after}


def _method_text(config: AtlasConfig, subjects: Subjects) -> str:
    """Return one line about how the pictures are drawn."""
    if config.method == "maco":
        maco = config.maco
        return (
            f"MACO, {config.size} px, {config.steps} steps at rate {maco.rate:g}, {maco.crops} crops of "
            f"{maco.box[0]:g} to {maco.box[1]:g} of the side at {maco.view} px, seed {config.seed}"
        )
    moves = config.transforms
    target = "the middle neuron" if config.neuron else "the score" if subjects.classes else "the whole channel"
    return (
        f"{target} from noise, {config.size} px, {config.steps} steps at rate {config.rate:g}, jitter {moves.jitter} px, "
        f"scale {moves.scale:g}, rotate {moves.rotate:g}\N{DEGREE SIGN}, seed {config.seed}"
    )


def _keys(config: AtlasConfig) -> tuple[str, ...]:
    """Return the settings that decide a picture with the config's method."""
    return _MACO_KEYS if config.method == "maco" else _PICTURE_KEYS


def picture_name(index: int) -> str:
    """Return the name of a subject's picture in the directory of an atlas."""
    return f"{CHANNELS}/channel-{index}.png"


def _facts(facts: dict[str, Any]) -> str:
    if not facts["found"]:
        return f"{_SILENT}: no step had a gradient to follow, so this is still noise"
    record: Any = facts.get("sight")
    # The record may come from somebody else.
    if fits(record, ProbeRecord) and record["after"]["top"]:
        guess = record["after"]["top"][0]
        return f"the network sees {guess['name']}, {100 * guess['probability']:.1f} %"
    return f"activation {facts['start']:.3g} of the noise, {facts['end']:.4g} of the picture"


def _dream_command(config: AtlasConfig, term: str) -> str:
    return make_command("render", [*model_words(config), f"objective.terms={hydra_text([term])}"])


def _settings(config: AtlasConfig, subjects: Subjects, loaded: Loaded) -> dict[str, Any]:
    """Return everything that decides a picture."""
    settings = dict(flat(asdict(config))) | {"layer": subjects.layer, "maco.box": list(config.maco.box)}
    return {key: settings[key] for key in ("model.name", "layer", *_keys(config))} | {
        "weights content": loaded.sha256,
        "program": __version__,
    }


def _refuse_small(config: AtlasConfig, subjects: Subjects) -> None:
    """Raise `UserError` if the network cannot see a picture, or a crop, of the config's size."""
    architecture = find_model(config.model.name).architecture
    smallest_side = (architecture if subjects.classes else architecture.truncated([subjects.layer])).smallest_input()
    key, side = ("maco.view", config.maco.view) if config.method == "maco" else ("size", config.size)
    if side < smallest_side:
        raise UserError(f"{key}={side}: {subjects.layer} of {architecture.name} needs at least {smallest_side} px")


def _refuse_without_classifier(config: AtlasConfig, subjects: Subjects, loaded: Loaded) -> None:
    if subjects.classes and f"{subjects.layer}/weight" not in loaded.parameters:
        raise UserError(
            f"model.weights={config.model.weights} has no {subjects.layer}, without which there are no classes: take a "
            "file that has it"
        )
