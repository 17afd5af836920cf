"""Directory, weights and farm of an atlas, and the words of the command that makes it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from render.atlas.display import AtlasProgress
from render.config.atlas_schema import AtlasConfig
from render.config.hydra_text import hydra_text, name_text
from render.errors import UserError
from render.farm.farms import Farm, open_farm
from render.networks.weights import Loaded, load
from render.pages.zoom_page import flat
from render.storage.url import checked_url
from render.storage.user_paths import input_path, user_path
from render.system import interrupts
from render.system.machine import cores


@contextmanager
def atlas_farm(config: AtlasConfig, store_bytes: int, progress: AtlasProgress) -> Iterator[Farm]:
    """Open the farm that draws an atlas; Ray may store up to `store_bytes`."""
    threads = config.farm.worker.threads or cores()
    with open_farm(config.farm, threads=threads, store_bytes=store_bytes, check=interrupts.check, say=progress.say) as farm:
        yield farm


def atlas_path(config: AtlasConfig) -> Path:
    """Return the path of the atlas' directory. Raise `UserError` for a URL."""
    if config.output.dir and checked_url(config.output.dir, "output.dir"):
        raise UserError(f"output.dir={config.output.dir}: an atlas is kept on a disk: name a path")
    return user_path(config.output.dir, "output.dir") if config.output.dir else Path("atlas") / config.title


def load_weights(config: AtlasConfig) -> Loaded:
    """Return the published or local weights of the model. Raise `UserError` without them."""
    model = config.model
    return load(model.name, input_path(model.weights, "model.weights") if model.weights else None, model.sha256)


def model_words(config: AtlasConfig) -> list[str]:
    """Return the command-line words that choose the model."""
    words = [f"model={config.model.name}"]
    if config.model.weights is not None:
        words.append(f"model.weights={name_text(config.model.weights)}")
    return words


def changed_words(config: AtlasConfig, keys: Sequence[str]) -> list[str]:
    """Return the command-line words for those of `keys` whose value is not the default."""
    defaults, settings = dict(flat(asdict(AtlasConfig()))), dict(flat(asdict(config)))
    return [f"{key}={hydra_text(settings[key])}" for key in keys if settings[key] != defaults[key]]
