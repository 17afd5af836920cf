"""A distributed, exact, high-resolution DeepDream renderer."""

from render.system.version import __version__

__all__ = ["__version__"]
