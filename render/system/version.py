"""Version of the program, and of packages."""

from __future__ import annotations

from functools import cache

__version__ = "0.1.0"


@cache
def package_version(name: str) -> str:
    """Return the version of an installed package.

    `importlib.metadata.version` has an e-mail parser read the whole description: a tenth of a second for all packages of a
    run's record.

    Raises:
        importlib.metadata.PackageNotFoundError: It is not installed.
    """
    # Imported only here: it takes half of the time in which a command that needs none of it starts.
    from importlib.metadata import distribution

    package = distribution(name)
    header, _, _ = (package.read_text("METADATA") or "").partition("\n\n")
    versions = [line.removeprefix("Version:").strip() for line in header.splitlines() if line.startswith("Version:")]
    return versions[0] if len(versions) == 1 else package.version
