"""Errors that end a command with one line, and errors from which the farm recovers by itself.

RenderError
  - UserError           a request cannot be done: the message says what, where and what to do (exit code 2)
    - StorageError      an object store cannot be reached, or refuses access
      - Overtaken       an object in the store has changed since it was read: somebody else writes to it
  - NumericalError      the gradient stopped being finite; names octave, step and tile (exit code 2)
  - DamagedCheckpoint   a canvas on disk is not as it was written; the checkpoint before it is used instead
  - NodeLost            Ray's processes on this machine have ended; the command runs once more from the last checkpoint
    - ClusterLost       a running cluster that the command had joined has ended; the same command goes on once it is back
  - PeerLost            a worker's connection to another has ended; the driver looks for the one that is to blame
  - WorkersLost         workers died or cannot be reached; they are replaced and continue from the last checkpoint

UrgentInterrupt, a KeyboardInterrupt, asks to stop at once and to leave everything as in the last checkpoint.

Any other exception that escapes is a defect of the program and keeps its traceback.
"""

from __future__ import annotations

from render.terminal.text import escaped


class RenderError(Exception):
    """Base of errors with a message for the user: one line, as control characters in it are escaped."""

    def __init__(self, message: str = "") -> None:
        """Store the message, escaped."""
        super().__init__(escaped(message))


class UserError(RenderError):
    """Bad input or environment; the message is one line: what, where, what to do."""


class StorageError(UserError):
    """An object store that cannot be reached, or that refuses a request."""


class Overtaken(StorageError):
    """An object that was to be replaced, but has changed since it was last read."""


class NumericalError(RenderError):
    """A gradient that is not finite, or that vanishes everywhere."""


class DamagedCheckpoint(RenderError):
    """A stored canvas that is missing, truncated, changed, or not the one that the manifest names."""


class WorkersLost(RenderError):
    """Workers that no longer answer or ran out of memory; the message says which and why, if known."""


class PeerLost(RenderError):
    """The end of a worker's connection to another: the other has gone, or cannot be reached."""


class NodeLost(RenderError):
    """The end of Ray's processes on this machine; Ray has to be started again.

    All workers are lost.
    """


class ClusterLost(NodeLost):
    """The end of a running cluster that this process had joined, which nothing here can start again."""


class UrgentInterrupt(KeyboardInterrupt):
    """The second request to stop: the user does not want to wait for another checkpoint."""
