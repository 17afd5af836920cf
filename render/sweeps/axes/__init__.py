"""Axes of a sweep: from words, lists and files to points, each a checked config."""
