"""Time limits of Slurm jobs, which must leave time to render before the job is told to save."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from render.cluster.slurm_options import PREFIX, option_lines
from render.errors import UserError

#: Time that Ray and the render take to start, and something has to be rendered in, s.
_MIN_WORK_S = 420
#: Time before the limit at which Slurm signals a job whose option says no other, s; see sbatch(1).
_DEFAULT_SIGNAL_S = 60
_SIGNAL = re.compile(r"(?:[BR]+:)?[A-Z0-9]+(?:@(\d{1,5}))?")


def limit_s(text: str) -> int | None:
    """Return the seconds that a time limit of sbatch stands for; None if it is unlimited, or not to be read.

    The formats are `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` and
    `days-hours:minutes:seconds`; see sbatch(1).
    """
    if not re.fullmatch(r"(\d{1,6}-)?\d{1,9}(:\d{1,6}){0,2}", text):
        return None
    days, dash, clock = text.rpartition("-")
    numbers = [*map(int, clock.split(":"))]
    if dash:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, minutes, seconds = (0, *numbers, 0)[:3]
    # No limit is written as 0.
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds or None


def refuse_short_time(text: str, options: Mapping[str, str]) -> None:
    """Raise `UserError` if the job would be told to save before it could render anything.

    A user who sets `sbatch.signal` decides it.

    Args:
        text: The batch script.
        options: Options of sbatch, which replace those of the script.
    """
    if "signal" in options or "SBATCH_SIGNAL" in os.environ:
        return
    request = option_lines(text)
    signal = _SIGNAL.fullmatch(request.get("signal", ""))
    time = options.get("time") or os.environ.get("SBATCH_TIMELIMIT") or request.get("time", "")
    limit = limit_s(time)
    if signal is None or limit is None:
        return
    signal_s = int(signal[1] or _DEFAULT_SIGNAL_S)
    if limit < signal_s + _MIN_WORK_S:
        raise UserError(
            f"{PREFIX}time={time} is too short: Slurm tells the job to save {signal_s} s before its limit, and starting "
            f"takes minutes: use {PREFIX}time={-(-(signal_s + _MIN_WORK_S) // 60)} or more, or set {PREFIX}signal=B:USR1@60"
        )
