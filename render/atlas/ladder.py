"""Ladder of layers: a picture dreamed with each block of a network, from edges to creatures."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from render.atlas.atlas_directory import PAGE, RUNGS, AtlasDirectory
from render.atlas.display import AtlasProgress
from render.atlas.page import Entry, page
from render.atlas.setup import atlas_farm, atlas_path, changed_words, load_weights, model_words
from render.atlas.sheets import write_sheets
from render.canvas.image import to_integers
from render.config.atlas_schema import AtlasConfig, rung_config
from render.config.command_words import make_command, render_command
from render.config.formats import SMALL_PICTURES
from render.config.hydra_text import hydra_text, name_text
from render.config.schema import Config
from render.export.labelled_sheet import Cell
from render.export.picture import image_of, write_picture
from render.farm.farms import Farm
from render.geometry.geometry import PIXEL_BYTES, whole
from render.job import job as jobs
from render.networks.architecture import Architecture
from render.networks.nodes import Conv, InceptionBlock
from render.networks.weights import Loaded, find_model
from render.pages.zoom_page import flat
from render.system.version import __version__

log = logging.getLogger(__name__)

#: Settings that decide a rung, besides network, layer and picture.
_PICTURE_KEYS = ("seed", "octaves.count", "octaves.scale", "octaves.steps", "step_size", "output.width")
_SOURCE = f"{RUNGS}/source.png"
#: Bytes that Ray stores besides weights and source: strips of small canvases.
_STORED_BYTES = 300_000_000
#: Most canvases that are in transfer at once.
_MAX_CANVASES = 4


def make_ladder(config: AtlasConfig) -> list[Path]:
    """Dream every rung that is missing; return the paths of the page and the sheets."""
    architecture = find_model(config.model.name).architecture
    layers = ladder_layers(architecture, config.layers)
    loaded = load_weights(config)
    path = atlas_path(config)
    rungs = {layer: _rung(config, layer, path) for layer in layers}
    # Draft every rung before any work, so that a layer is not refused only after all others are dreamed.
    draft = None
    for rung in rungs.values():
        draft = jobs.draft(rung)
    assert draft is not None
    directory = AtlasDirectory(path, _settings(config, loaded, draft.resolved.source.sha256), fresh=config.fresh)
    directory.check()
    area = draft.plan.final.grid.canvas.area
    weights = sum(array.nbytes for array in loaded.parameters.values())
    store_bytes = _STORED_BYTES + round(1.2 * (draft.resolved.source.nbytes + weights)) + _MAX_CANVASES * PIXEL_BYTES * area
    with directory.opened():
        progress = AtlasProgress("layers", len(layers), 0, quiet=config.quiet)
        try:
            _write_source(draft, directory)
            with atlas_farm(config, store_bytes, progress) as farm:
                for layer, rung in rungs.items():
                    _dream_rung(layer, rung, directory, farm)
                    progress.count(layer)
            return _publish(config, directory, architecture)
        finally:
            progress.close()


def ladder_layers(architecture: Architecture, chosen: list[str] | None) -> list[str]:
    """Return the layers of a ladder in the order in which the network computes them.

    These are the `chosen` ones; if that is None, every block and the convolutions outside of blocks. Convolutions of
    1 x 1 px are then left out, because their receptive field is that of the layer before.
    """
    if chosen is not None:
        layer_names = {architecture.layer(name).name for name in chosen}
        return [name for name in architecture.layers if name in layer_names]
    return [
        node.name
        for node in architecture.nodes
        if isinstance(node, InceptionBlock) or (isinstance(node, Conv) and max(node.kernel) > 1)
    ]


def _rung(config: AtlasConfig, layer: str, path: Path) -> Config:
    file_name = layer.replace("/", "_")
    return rung_config(config, file_name, layer, str(path / RUNGS / file_name))


def _dream_rung(layer: str, rung: Config, directory: AtlasDirectory, farm: Farm) -> None:
    """Dream one rung, or use its finished run; record the path of its picture."""
    draft = jobs.draft(rung)
    if draft.resolved.directory.is_finished():
        (picture,) = jobs.make_again(draft)
    else:
        draft.resolved.directory.check()
        try:
            with jobs.prepared(draft, farm) as job:
                (picture,) = jobs.render(job)
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)(f"interrupted at {layer}; the same command goes on there") from None
    log.info("%s: %s", layer, picture)
    rungs = {**directory.record.get("rungs", {}), layer: os.path.relpath(picture, directory.path)}
    directory.save(rungs=rungs)


def _write_source(draft: jobs.Draft, directory: AtlasDirectory) -> None:
    """Write the source picture at the size of the dreams, unless it is there already."""
    if directory.has(_SOURCE):
        return
    shape = draft.plan.final.shape
    draft.resolved.source.prepare(shape, log.info)
    pixels = draft.resolved.source.at(shape, whole(*shape))
    draft.resolved.source.discard()
    write_picture(directory.path / _SOURCE, image_of(to_integers(pixels, 8)), "png")
    directory.add_picture(_SOURCE)


def _publish(config: AtlasConfig, directory: AtlasDirectory, architecture: Architecture) -> list[Path]:
    """Write sheets and page of every finished rung, in the network's order; return their paths."""
    rung_paths: dict[str, str] = directory.record["rungs"]
    layers = [layer for layer in architecture.layers if (directory.path / rung_paths.get(layer, "")).is_file()]
    title = f"{config.model.name}, layer by layer"
    cells = [Cell("source"), *map(Cell, layers)]
    names = [_SOURCE, *(rung_paths[layer] for layer in layers)]
    sheets = write_sheets(directory, title, _method_text(config), cells, names, config.output.columns)
    entries = [Entry("source", "source", "the source", _SOURCE, "what every layer was given", ())]
    for layer in layers:
        layer_info = architecture.layer(layer)
        facts = f"{layer_info.channels} channels, each sees {layer_info.receptive_field} px, stride {layer_info.stride} px"
        words = [*model_words(config), f"layer={layer}"]
        commands = (
            ("Dream with this layer", _dream_command(config, layer)),
            ("See its channels", make_command("atlas", words)),
        )
        entries.append(Entry(layer.replace("/", "-"), layer, layer, rung_paths[layer], facts, commands))
    origin_facts = [
        ("network", f"{config.model.name}, weights sha256 {directory.record['settings']['weights content'][:12]}"),
        ("picture", config.image.rpartition("/")[2]),
        ("method", "a DeepDream of the picture with the mean square of each layer's activations"),
        ("settings", _method_text(config)),
        ("program", f"version {__version__}"),
    ]
    words = [*model_words(config), f"image={name_text(config.image)}", *changed_words(config, _PICTURE_KEYS)]
    if layers != ladder_layers(architecture, None):
        words.append(f"layers={hydra_text(layers)}")
    with Image.open(directory.path / _SOURCE, formats=SMALL_PICTURES) as image:
        size = image.height, image.width
    directory.write(PAGE, page(title, "layers", size, entries, origin_facts, make_command("atlas", words)))
    directory.save(sheets=[path.name for path in sheets])
    return [directory.path / PAGE, *sheets]


def _dream_command(config: AtlasConfig, layer: str) -> str:
    rung = rung_config(config, "preview", layer, None)
    return render_command(asdict(rung))


def _method_text(config: AtlasConfig) -> str:
    octaves = config.octaves
    return (
        f"{config.image.rpartition('/')[2]}, {config.output.width} px wide, {octaves.count} octaves at {octaves.scale:g}, "
        f"{octaves.steps} steps of {config.step_size:g}, seed {config.seed}"
    )


def _settings(config: AtlasConfig, loaded: Loaded, image_sha256: str) -> dict[str, Any]:
    """Return everything that decides a rung."""
    settings = dict(flat(asdict(config)))
    return {key: settings[key] for key in ("model.name", "layer", *_PICTURE_KEYS)} | {
        "image content": image_sha256,
        "weights content": loaded.sha256,
        "program": __version__,
    }
