"""The token that a cluster asks for: Ray's own rules for where it lies, and a Kubernetes cluster's secret."""

from __future__ import annotations

import os
from pathlib import Path

from render.cluster.tools import last_line, output_of, ray_command
from render.errors import UserError

#: Where Ray keeps the token, here and on nodes.
TOKEN = "~/.ray/auth_token"


def local_token() -> str | None:
    """The token that Ray would take on this machine: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if token:
        return token
    token_file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN).expanduser()
    try:
        return token_file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the token in {token_file} cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        ) from None


def make_token() -> None:
    """Makes the token file that is copied to nodes, ~/.ray/auth_token, where there is none. Prints nothing of it."""
    token_file = Path(TOKEN).expanduser()
    if token_file.exists():
        return
    result = output_of(ray_command("get-auth-token", "--generate"))
    if result.returncode or not token_file.exists():
        raise UserError(
            f"no token can be made in {token_file} ({last_line(result.stderr)}): make it with "
            "`ray get-auth-token --generate`"
        )
    token_file.chmod(0o600)
