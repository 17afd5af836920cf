"""OpenCV, set so that the same frames give the same bytes everywhere."""

from __future__ import annotations

import threading
from typing import Any

_settled = threading.local()


def settled_opencv() -> Any:
    """Import OpenCV, and have it compute with one thread and without its code for particular processors.

    Frames are the unit of parallel work instead: its calls let other threads of Python run.
    """
    import cv2

    # OpenCV keeps some of these settings for each thread, such as the use of Intel's library.
    if not getattr(_settled, "is_done", False):
        # Each stripe of a parallel search begins anew, so results could depend on the number of threads.
        cv2.setNumThreads(1)
        # Faster code for some processors rounds in another order. It saves nothing measurable here.
        cv2.setUseOptimized(False)
        cv2.ipp.setUseIPP(False)
        cv2.ocl.setUseOpenCL(False)
        _settled.is_done = True
    return cv2
