"""The Python API, whose names `render` itself exports."""
