"""What a sweep would take, from a few of its points: for those who ask first, and for grids that are larger than they look."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from render import job as jobs
from render.config import FarmConfig
from render.errors import UserError
from render.plan import size_text
from render.progress import duration_text
from render.sweep.axes import Found
from render.sweep.drafting import Drafted, Refused, draft_points
from render.sweep.points import Point, count, expand

#: Points that stand for all.
_SAMPLED = 12


def projected(found: Found) -> str:
    """The time and the disk that all points would take, in words, as this machine does a few of them."""
    drafted = [point for point in draft_points(found, _some(found), None) if isinstance(point, Drafted)]
...
