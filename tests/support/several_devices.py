"""Renders the farm's test job in a process of its own and saves the float canvas; prints how many devices each worker has.

XLA_FLAGS=--xla_force_host_platform_device_count=4 \\
  python -m tests.support.several_devices RUN_DIRECTORY CANVAS.npy [key=value]
"""

from __future__ import annotations

import json
import sys

import numpy as np

from render.config.compose import load_config
from render.job.job import draft, prepared
from tests.support.farm_job import JOB, dreamed

if __name__ == "__main__":
    directory, target, *words = sys.argv[1:]
    with prepared(draft(load_config("preview", [*JOB, f"output.dir={directory}", *words]))) as job:
        np.save(target, dreamed(job, job.conductor()))
        print(json.dumps([facts.devices for facts in job.workers]))
