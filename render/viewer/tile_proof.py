"""Soft proofs of the viewer's tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyvips

from render.canvas.image import to_integers
from render.dreaming.resample import Pixels
from render.export.profile import Profile
from render.export.soft_proof import printed_colours, proof

#: Names of the pictures of a proof: the colours of the print, and the print in grey with a mark where it lacks colours.
PROOF, GAMUT = "proof", "gamut"


@dataclass(frozen=True)
class TileProof:
    """Soft proof for a press, printer or display, computed tile by tile: every pixel depends on itself alone.

    Attributes:
        profile: Its profile.
        intent: Rendering intent of the conversion to it.
        paper: True to show white as the paper's colour and black as the ink's.
    """

    profile: Profile
    intent: str
    paper: bool = False

    def pixels(self, picture: str, pixels: Pixels) -> Pixels:
        """Return a tile's soft proof.

        Args:
            picture: `PROOF` or `GAMUT`.
            pixels: (rows, columns, 3) float32 of the canvas, 0..255.

        Returns:
            The same shape and type, of whole numbers.
        """
        image = pyvips.Image.new_from_array(to_integers(pixels, 16)).copy(interpretation="rgb16")
        if picture == PROOF:
            return printed_colours(image, self.profile, self.intent, paper=self.paper).astype(np.float32)
        return proof(image, self.profile, self.intent, paper=self.paper).warning.astype(np.float32)
