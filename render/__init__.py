"""A distributed, exact, high-resolution DeepDream renderer."""

__version__ = "0.1.0"
