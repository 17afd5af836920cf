"""Access token of a cluster, looked up by Ray's own rules."""

from __future__ import annotations

import os
from pathlib import Path

from render.cluster.tool_calls import last_line, output_of, ray_command
from render.errors import UserError

#: Ray's token file, on this machine and on nodes.
TOKEN_FILE = "~/.ray/auth_token"


def local_token() -> str | None:
    """Return the token that Ray would use on this machine; None if there is none.

    It comes from RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token. Raise `UserError` if the file is
    not readable.
    """
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if token:
        return token
    token_file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    try:
        return token_file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the token in {token_file} cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        ) from None


def make_token() -> None:
    """Make the token file that is copied to nodes, if there is none. The token is not printed."""
    token_file = Path(TOKEN_FILE).expanduser()
    if token_file.exists():
        return
    result = output_of(ray_command("get-auth-token", "--generate"))
    if result.returncode or not token_file.exists():
        raise UserError(
            f"no token can be made in {token_file} ({last_line(result.stderr)}): make it with "
            "`ray get-auth-token --generate`"
        )
    token_file.chmod(0o600)
