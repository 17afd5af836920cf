"""Clusters of Ray's own autoscaler: `ray up` on a cloud or on existing machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from render.cluster.access import TOKEN_FILE, local_token, make_token
from render.cluster.cluster_files import DASHBOARD_PORT, Cluster, job_words
from render.cluster.dashboard import Dashboard
from render.cluster.tool_calls import output_of, ray_command, run
from render.cluster.tools import google_project
from render.cluster.tunnel import forwarded
from render.errors import UserError
from render.export.picture import write_whole
from render.system.paths import cache_directory
from render.terminal.lines import print_lines

#: Directory of the wheel for the nodes, below the checkout.
_WHEELS = "dist"
_MAX_BUILD_S = 300.0


def up(cluster: Cluster) -> None:
    """Start the head, which starts the other nodes, or update a running cluster to its file."""
    root = _root()
    mounts = _file_mounts(cluster)
    if any(str(local).startswith(f"{_WHEELS}/") for local in mounts.values()):
        _build_wheel(cluster, root)
    if TOKEN_FILE in mounts.values():
        make_token()
    for remote, local in mounts.items():
        path = Path(str(local)).expanduser()
        if not (path if path.is_absolute() else root / path).exists():
            raise UserError(
                f"{cluster.path}: file_mounts has {remote}: {local}, which is not here: its path is looked for from {root}"
            )
    run(ray_command("up", "--yes", str(_file(cluster))), directory=root)


def down(cluster: Cluster) -> None:
    """End every machine of the cluster."""
    run(ray_command("down", "--yes", str(_file(cluster))), directory=_root())


@contextmanager
def reached(cluster: Cluster) -> Iterator[Dashboard]:
    """Yield the head's dashboard, reached by ssh."""
    path = str(_file(cluster))

    def forward_command(port: int) -> list[str]:
        """Return the command that forwards the dashboard to a port of this machine."""
        return ray_command("dashboard", "--port", str(port), "--remote-port", str(DASHBOARD_PORT), path)

    with forwarded(forward_command, cluster.word) as url:
        yield Dashboard(cluster.word, url, local_token()).greeted()


def submit_words(cluster: Cluster) -> list[str]:
    """Return the farm settings in the cluster's file, for jobs that do not set them."""
    return job_words(cluster, "metadata.submit", (cluster.document.get("metadata") or {}).get("submit") or [])


def _file(cluster: Cluster) -> Path:
    """Return the path of the file that Ray reads.

    It is the cluster's own, or a copy in the user's cache with the Google Cloud project that the file leaves open.
    """
    if cluster.cloud != "gcp" or cluster.document["provider"].get("project_id"):
        return cluster.path.absolute()
    document = {**cluster.document, "provider": {**cluster.document["provider"], "project_id": google_project(cluster)}}
    copy = cache_directory() / "clusters" / f"{cluster.path.stem}-{document['provider']['project_id']}.yaml"
    write_whole(copy, yaml.safe_dump(document, sort_keys=False).encode())
    return copy


def _root() -> Path:
    """Return the base of paths in a cluster's file: the checkout, or the current directory."""
    checkout = Path(__file__).parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def _file_mounts(cluster: Cluster) -> dict[str, object]:
    mounts = cluster.document.get("file_mounts") or {}
    if not isinstance(mounts, dict):
        raise UserError(f"{cluster.path}: file_mounts must be pairs of REMOTE: LOCAL")
    return mounts


def _build_wheel(cluster: Cluster, root: Path) -> None:
    """Build a wheel of the package as it is now, for the nodes."""
    if not (root / "pyproject.toml").is_file():
        raise UserError(
            f"cluster={cluster.word} copies a wheel from {_WHEELS}/, which is built from a checkout of the project: run "
            "make there"
        )
    print_lines("building the wheel for the nodes")
    command = ["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir", _WHEELS, "."]
    result = output_of([ray_command()[0], *command], timeout_s=_MAX_BUILD_S, directory=root)
    if result.returncode:
        raise UserError(f"the wheel for the nodes cannot be built: {' '.join(result.stderr.split())[-300:]}")
