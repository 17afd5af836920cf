"""The errors that end a command with one line.

RenderError
  - UserError       something asked for cannot be done: says what, where and what to do (exit code 2)
  - NumericalError  the gradient stopped being finite; names octave, step and tile (exit code 2)

Anything else that escapes is a defect of the program and keeps its traceback.
"""


class RenderError(Exception):
    """Base of the errors whose message is written for the person at the keyboard."""


class UserError(RenderError):
    """Bad input or surroundings; the message is one line: what, where, what to do."""


class NumericalError(RenderError):
    """A gradient that is not finite, or that vanishes everywhere."""
