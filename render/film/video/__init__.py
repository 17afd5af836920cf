"""Film files by FFmpeg's libraries (PyAV): formats, encoding, joining, animations, and the reading of footage."""
