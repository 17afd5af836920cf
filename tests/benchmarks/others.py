"""How much of the machine other programs take while something is measured."""

from __future__ import annotations

import psutil


class Others:
    """Counts processor time from the moment when it is made. Children that end in between count as others."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._times()

    @property
    def share(self) -> float:
        """Processor time that neither this process nor its children took, over what all cores had to give: 0 to 1."""
        wall, theirs = (after - before for after, before in zip(self._times(), self._before, strict=True))
        return min(1.0, max(0.0, theirs / wall)) if wall > 0 else 0.0

    @property
    def note(self) -> str:
        """Return the same as text for people."""
        return f"other programs took {100 * self.share:.0f} % of the machine meanwhile"

    def _times(self) -> tuple[float, float]:
        """Processor seconds that there were, and those of other programs."""
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        # What a host took away (steal) was another's too; a guest's share is counted as user time already.
        spent = (
            machine.user + machine.system + sum(getattr(machine, name, 0.0) for name in ("nice", "irq", "softirq", "steal"))
        )
        processes = [self._process, *self._process.children(recursive=True)]
        own = sum(sum(process.cpu_times()[:2]) for process in processes)
        return idle + spent, spent - own
