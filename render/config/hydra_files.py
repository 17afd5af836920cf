"""Config files as Hydra reads them: bounded and plain, as all YAML of the user's."""

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

#: Values that a config may hold with all aliases written out: Hydra takes some 150 us for each.
MAX_CONFIG_NODES = 50_000
#: Configs that one may be made of, each counted as often as a defaults list names it: Hydra's time grows faster than that.
MAX_CONFIGS = 100
#: Letters that Hydra looks for a package's name in.
_HEADER = 512


class CheckedFiles(FileConfigSource):
    """Hydra's source of config files, with what they hold checked before Hydra believes it.

    Raises `UnsafeYaml`, `OSError`, or `ConfigCompositionException` where a document is YAML but no config.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        text = read_yaml_text(path)
        check_yaml(text, MAX_CONFIG_NODES, one_document=True)
        config = _as_config(text, path.name)
        if "defaults" in config:
            plain = OmegaConf.to_container(config, resolve=False)
            assert isinstance(plain, dict)
            _check_defaults(plain["defaults"], path.name)
        return ConfigResult(
            config=config,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=ConfigSource._get_header_dict(text[:_HEADER]),
        )


def use_checked_files() -> None:
    """Have Hydra read all config files through `CheckedFiles`."""
    # Its own sources are registered first: a scheme cannot be taken twice.
    Plugins.instance()
    SourcesRegistry.instance().types[CheckedFiles.scheme()] = CheckedFiles


def check_tree(name: str, places: Sequence[Path]) -> None:
    """Raise `ConfigCompositionException` where the defaults of a config lead back to it, or name too many others.

    Args:
        name: The config, without directory and suffix.
        places: The directories that configs are looked for in, the first before the second.
    """
    _Tree(places).count(name)


class _Tree:
    """Configs and those that their defaults lists name, by their names below a place such as `job/default`."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._known: dict[str, int] = {}
        self._above: list[str] = []

    def count(self, name: str) -> int:
        """Return the number of configs that a config is made of, itself included."""
        if name in self._above:
            way = " > ".join([*self._above[self._above.index(name) :], name])
            raise ConfigCompositionException(f"its defaults lead in a circle: {way}: leave one of them out")
        if name not in self._known:
            self._above.append(name)
            count = 1 + sum(map(self.count, self._named(name)))
            self._above.pop()
            if count > MAX_CONFIGS:
                raise ConfigCompositionException(f"its defaults name over {MAX_CONFIGS} configs: name each once")
            self._known[name] = count
        return self._known[name]

    def _named(self, name: str) -> Iterator[str]:
        """The configs that a config's defaults list names; what Hydra would refuse is left to it."""
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
    """The name of a config that one in a group names: beside it, or from the top where a slash comes first."""
    name = written.rpartition(" ")[2].partition("@")[0].removesuffix(".yaml")
    return name.lstrip("/") if name.startswith("/") or not group else f"{group}/{name}"


def _as_config(text: str, name: str) -> DictConfig:
    try:
        config = OmegaConf.load(io.StringIO(text))
    except OSError:
        # What OmegaConf says to a bare number.
        config = None
    except (yaml.YAMLError, ValueError) as error:
        # OmegaConf's parser, in Python, takes less than libyaml's.
        raise UnsafeYaml(one_line(error)) from None
    if not isinstance(config, DictConfig) or _is_word(text):
        raise ConfigCompositionException(f"{name} holds no keys with values: write lines such as seed: 1")
    return config


def _is_word(text: str) -> bool:
    """Whether a text is a bare word, which OmegaConf takes for a key without a value."""
    return len(text) < _HEADER and isinstance(load_yaml(text), str)


def _check_defaults(defaults: Any, name: str) -> None:
    """Raise unless the defaults list names configs: `NAME`, or `GROUP: NAME`, `[NAME, ...]` or null."""
    rule = "write them as a list, such as [{job: default}, _self_]"
    if not isinstance(defaults, list):
        raise ConfigCompositionException(f"{name}: defaults={_short(defaults)} is no list of configs: {rule}")
    for entry in defaults:
        pairs = list(entry.items()) if isinstance(entry, dict) else [(entry, None)]
        fits = len(pairs) == 1 and isinstance(pairs[0][0], str) and pairs[0][0] not in ("", "???")
        if not (fits and (_is_choice(pairs[0][1]))):
            raise ConfigCompositionException(f"{name}: defaults has {_short(entry)}, which names no config: {rule}")


def _is_choice(value: Any) -> bool:
    several = value if isinstance(value, list) else [value]
    return all(one is None or isinstance(one, str) for one in several)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
