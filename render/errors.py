"""The errors that end a command with one line, and those that the farm mends by itself.

RenderError
  - UserError           something asked for cannot be done: says what, where and what to do (exit code 2)
    - StorageError      an object store cannot be reached, or does not let us
      - Overtaken       an object there is not as we last saw it: somebody else writes to it
  - NumericalError      the gradient stopped being finite; names octave, step and tile (exit code 2)
  - DamagedCheckpoint   a canvas on disk is not what was written; the one before it is taken instead
  - NodeLost            Ray's own processes on this machine have ended; the command is run once more from what is saved
  - WorkersLost         workers died or cannot be reached; they are replaced and the last checkpoint is taken up

UrgentInterrupt, a KeyboardInterrupt, asks to stop at once and leave everything as the last checkpoint has it.

Anything else that escapes is a defect of the program and keeps its traceback.
"""

from __future__ import annotations

from render.terminal.text import escaped


class RenderError(Exception):
    """Base of the errors whose message is written for the person at the keyboard: one line, whatever names it quotes."""

    def __init__(self, message: str = "") -> None:
        super().__init__(escaped(message))


class UserError(RenderError):
    """Bad input or surroundings; the message is one line: what, where, what to do."""


class StorageError(UserError):
    """An object store that cannot be reached, or that refuses what is asked of it."""


class Overtaken(StorageError):
    """An object that was to be replaced as it was last seen, and is another by now."""


class NumericalError(RenderError):
    """A gradient that is not finite, or that vanishes everywhere."""


class DamagedCheckpoint(RenderError):
    """A stored canvas that is missing, cut short, changed, or another one than the manifest names."""


class WorkersLost(RenderError):
    """Workers that no longer answer, or that ran out of memory; the message says which and why, as far as is known."""


class NodeLost(RenderError):
    """Ray's own processes on this machine ended: every worker is lost with them, and Ray has to be started anew."""


class UrgentInterrupt(KeyboardInterrupt):
    """The second request to stop: whoever sent it does not want to wait for another checkpoint."""
