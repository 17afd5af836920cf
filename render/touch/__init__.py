"""Touching up a finished canvas: a box or a painted area of it is dreamed again, or taken back to the source."""
