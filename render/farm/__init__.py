"""The workers and the conductor that steps them."""

import os

# Read when Ray is imported, wherever that is: it would announce, and send, statistics.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray says in advance that workers without a GPU will see all of them; ours are told their platform.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Started by `uv run`, Ray would copy the directory and make the environment anew for each worker: they have ours.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
