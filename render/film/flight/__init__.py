"""Flights of a camera over a finished canvas, and films of a run's growth. Nothing is dreamed."""
