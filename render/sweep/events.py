"""What happens in a sweep, one line of JSON each in `events.jsonl`: the record that the screen and `status` read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

#: begun and ended frame a command; the others are about a point. `skipped` was done before; `failed` is for good;
#: `retried` goes back into the queue; `interrupted` was saved and waits for the next command.
Kind = Literal["begun", "skipped", "started", "finished", "failed", "retried", "interrupted", "ended"]


@dataclass(frozen=True)
class Event:
    """`time` is seconds since the epoch; `point` the number of a point of this command, None for begun and ended.

    What `facts` holds, by kind. begun: pid, points, axes. started: worker (what it runs on, such as `pid 12 on host`),
    attempt (from 1). finished: seconds, megapixels (of windows dreamed). failed, retried: reason. ended: status (finished,
    failed where a point failed, interrupted, stopped by an error), seconds.
    """

    kind: Kind
    time: float
    point: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
