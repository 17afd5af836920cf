"""Dreamed films: every frame is dreamed on what its camera sees of the one before."""
