"""Config files for Hydra, with the limits and checks of all YAML from users."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from render.config.yaml_files import UnsafeYaml, check_yaml, load_yaml, one_line, read_yaml_text

#: Most values of a config, with all aliases expanded. Hydra takes about 150 us for each.
MAX_CONFIG_NODES = 50_000
#: Most configs that one config is made of, counted each time a defaults list names one. Hydra's time grows faster still.
MAX_CONFIGS = 100
#: Characters of a file in which Hydra looks for a package name.
_HEADER = 512


class CheckedFiles(FileConfigSource):
    """Hydra's source of config files, with checks of their content before Hydra uses it.

    Raises `UnsafeYaml`, `OSError`, or `ConfigCompositionException` for YAML that is not a config.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a checked config file of this source, as Hydra asks for it."""
        path = Path(self.path) / self._normalize_file_name(config_path)
        text = read_yaml_text(path)
        check_yaml(text, MAX_CONFIG_NODES, one_document=True)
        config = _as_config(text, path.name)
        if "defaults" in config:
            content = OmegaConf.to_container(config, resolve=False)
            assert isinstance(content, dict)
            _check_defaults(content["defaults"], path.name)
        return ConfigResult(
            config=config,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=ConfigSource._get_header_dict(text[:_HEADER]),
        )


def use_checked_files() -> None:
    """Register `CheckedFiles` as the source of all of Hydra's config files."""
    # Hydra has to register its own sources first, because a scheme cannot be registered twice.
    Plugins.instance()
    SourcesRegistry.instance().types[CheckedFiles.scheme()] = CheckedFiles


def check_tree(name: str, places: Sequence[Path]) -> None:
    """Raise `ConfigCompositionException` if the defaults of a config form a circle or name too many configs.

    Args:
        name: The config, without directory and suffix.
        places: Directories to search for configs, in this order.
    """
    _Tree(places).count(name)


class _Tree:
    """Tree of configs and the configs in their defaults lists. Names are relative to a place, such as `job/default`."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._known: dict[str, int] = {}
        self._above: list[str] = []

    def count(self, name: str) -> int:
        """Return the number of configs that a config is made of, including itself."""
        if name in self._above:
            cycle = " > ".join([*self._above[self._above.index(name) :], name])
            raise ConfigCompositionException(f"its defaults lead in a circle: {cycle}: leave one of them out")
        if name not in self._known:
            self._above.append(name)
            count = 1 + sum(map(self.count, self._named(name)))
            self._above.pop()
            if count > MAX_CONFIGS:
                raise ConfigCompositionException(f"its defaults name over {MAX_CONFIGS} configs: name each once")
            self._known[name] = count
        return self._known[name]

    def _named(self, name: str) -> Iterator[str]:
        """Yield the configs in a config's defaults list. Skip invalid entries, which Hydra reports."""
        path = next((path for place in self._places if (path := place / f"{name}.yaml").is_file()), None)
        document = load_yaml(read_yaml_text(path), MAX_CONFIG_NODES) if path is not None else None
        defaults = document.get("defaults") if isinstance(document, dict) else None
        group = name.rpartition("/")[0]
        for entry in defaults if isinstance(defaults, list) else []:
            for key, choice in entry.items() if isinstance(entry, dict) else [("", entry)]:
                folder, _, _ = str(key).rpartition(" ")[2].partition("@")
                for word in choice if isinstance(choice, list) else [choice]:
                    if isinstance(word, str) and word != "_self_":
                        yield _below(group, f"{folder}/{word}" if folder else word)


def _below(group: str, written: str) -> str:
    """Return the full name of a config named in a group: relative to the group, or to the top after a leading slash."""
    name = written.rpartition(" ")[2].partition("@")[0].removesuffix(".yaml")
    return name.lstrip("/") if name.startswith("/") or not group else f"{group}/{name}"


def _as_config(text: str, name: str) -> DictConfig:
    try:
        config = OmegaConf.load(io.StringIO(text))
    except OSError:
        # OmegaConf raises this for a bare number.
        config = None
    except (yaml.YAMLError, ValueError) as error:
        # OmegaConf's parser accepts less than libyaml.
        raise UnsafeYaml(one_line(error)) from None
    if not isinstance(config, DictConfig) or _is_word(text):
        raise ConfigCompositionException(f"{name} holds no keys with values: write lines such as seed: 1")
    return config


def _is_word(text: str) -> bool:
    """Return True if a text is a bare word, which OmegaConf reads as a key without a value."""
    return len(text) < _HEADER and isinstance(load_yaml(text), str)


def _check_defaults(defaults: Any, name: str) -> None:
    """Raise `ConfigCompositionException` unless all entries are `NAME` or `GROUP:` with `NAME`, `[NAME, ...]` or null."""
    rule = "write them as a list, such as [{job: default}, _self_]"
    if not isinstance(defaults, list):
        raise ConfigCompositionException(f"{name}: defaults={_short(defaults)} is no list of configs: {rule}")
    for entry in defaults:
        pairs = list(entry.items()) if isinstance(entry, dict) else [(entry, None)]
        fits = len(pairs) == 1 and isinstance(pairs[0][0], str) and pairs[0][0] not in ("", "???")
        if not (fits and (_is_choice(pairs[0][1]))):
            raise ConfigCompositionException(f"{name}: defaults has {_short(entry)}, which names no config: {rule}")


def _is_choice(value: Any) -> bool:
    choices = value if isinstance(value, list) else [value]
    return all(choice is None or isinstance(choice, str) for choice in choices)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
