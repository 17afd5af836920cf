"""Units of length on paper."""

from __future__ import annotations

CM_PER_INCH = 2.54
MM_PER_INCH = 25.4
