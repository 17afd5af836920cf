"""The weights of a job's network, and what to take where they cannot be had."""

from __future__ import annotations

import logging

from render.config.schema import NO_LOOK
from render.errors import UserError
from render.job.looks import look_without
from render.job.resolve import NetworkChoice
from render.networks.sources import WeightsUnavailable
from render.networks.weights import Loaded, load

log = logging.getLogger(__name__)


def load_weights(network: NetworkChoice, look: str = NO_LOOK) -> Loaded:
    """Load the weights of a network, published or local.

    Args:
        network: The network, with its file of weights if it has one.
        look: Look that chose the network; where its weights cannot be had, the message names one that does without.

    Raises:
        UserError: The weights cannot be had, or do not fit.
    """
    try:
        loaded = load(network.name, network.weights, network.sha256)
    except WeightsUnavailable as error:
        if look == NO_LOOK:
            raise
        other = look_without(network.name)
        raise UserError(f"{error}; or take look={other.name}, for which {other.model} is enough") from None
    log.info("weights loaded: sha256 %s", loaded.sha256)
    return loaded
