"""Cache of opened sources: many points begin with the same picture."""

from __future__ import annotations

from render.config.schema import SourceConfig
from render.source.source import Source, open_source, picture_path

#: Largest number of sources that a process keeps open; a photograph may take hundreds of megabytes.
_MAX_SOURCES = 2


class SourceCache:
    """Opener of sources that keeps those used last."""

    def __init__(self) -> None:
        self._sources: dict[object, Source] = {}

    def __call__(self, image: str, seed: int, config: SourceConfig) -> Source:
        """Open a source as `open_source` does, or return it from the cache if it is unchanged."""
        if image == "noise":
            return open_source(image, seed, config)
        path = picture_path(image, "a path, sample:NAME or noise")
        status = path.stat()
        key = (str(path.absolute()), status.st_mtime_ns, status.st_size, str(config))
        source = self._sources.pop(key, None) or open_source(image, seed, config)
        self._sources[key] = source
        while len(self._sources) > _MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        return source
