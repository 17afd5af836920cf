"""Fourier spectrum of a picture in decorrelated colours: the variables of ascent from noise, and of MACO the phases alone.

Gradient ascent on pixels ends in high-frequency noise that excites the network but shows nothing. In coordinates where
frequencies and colours are as independent and as strong as in photographs, it ends in pictures (Olah 2017, "Feature
Visualization", the section on preconditioning).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from render.dreaming.decorrelation import COLOUR_ROOT

#: Rows are R, G, B, columns independent colours.
_DECORRELATED = COLOUR_ROOT.astype(np.float32)
#: Exponent of the frequency in the magnitudes of photographs (Tolhurst 1992: 1.2 in the mean of 135), and the strength of
#: the two axes of chroma relative to brightness (0.5 to 0.8 in four of five sample photographs of scikit-image).
_SLOPE, _CHROMA = 1.2, 0.5
#: Contrast of a spectrum of unit noise, and standard deviation of the starting noise (Lucid's values).
_CONTRAST, _START_DEVIATION = 0.25, 0.01


def spectrum_shape(side: int) -> tuple[int, int, int, int]:
    """Return the shape of a square picture's spectrum.

    Its axes are real and imaginary part, colours, and rows and columns of the real FFT.
    """
    return (2, 3, side, side // 2 + 1)


def noise_spectrum(seed: int, channel: int, side: int) -> NDArray[np.float32]:
    """Return the noise from which a channel's ascent starts: float32 of `spectrum_shape`.

    It comes from Philox, a counter-based generator (Salmon 2011), keyed by (seed, channel), so it does not depend on which
    other channels are drawn.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, channel]))
    return (_START_DEVIATION * generator.standard_normal(spectrum_shape(side))).astype(np.float32)


def pixels_of(spectrum: jax.Array, side: int) -> jax.Array:
    """Return the picture of a spectrum: (side, side, 3) float32 RGB, 0..255, periodic.

    Frequency f, in cycles per px, has weight 1 / max(f, 1 / side), as in photographs (Field 1987).
    """
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    weight = _CONTRAST * side / np.maximum(np.hypot(rows, columns), 1 / side)
    colours = jnp.fft.irfft2(jax.lax.complex(spectrum[0], spectrum[1]) * weight.astype(np.float32), s=(side, side))
    return _correlated(colours)


def natural_magnitudes(side: int) -> NDArray[np.float32]:
    """Return the magnitudes of a natural picture's spectrum: (3, side, side // 2 + 1) float32.

    The first axis is brightness and two axes of chroma. Magnitudes follow the law for photographs, 1 / frequency ** 1.2
    (Tolhurst 1992, "Amplitude spectra of natural images"), without a mean.
    """
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    magnitudes = np.maximum(np.hypot(rows, columns), 1 / side) ** -_SLOPE
    magnitudes[0, 0] = 0
    return (np.asarray([1, _CHROMA, _CHROMA])[:, None, None] * magnitudes).astype(np.float32)


def noise_phases(seed: int, channel: int, side: int) -> NDArray[np.float32]:
    """Return the random phases from which a channel's picture starts, (3, side, side // 2 + 1), radians.

    Uniform, and from the generator of `noise_spectrum`.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, channel]))
    return generator.uniform(-np.pi, np.pi, spectrum_shape(side)[1:]).astype(np.float32)


def pixels_of_phases(phases: jax.Array, magnitudes: NDArray[np.float32], contrast: float) -> jax.Array:
    """Return the picture with the given phases and magnitudes: (side, side, 3) float32 RGB, 0..255, periodic.

    As in MACO (Fel 2023, "Unlocking Feature Visualization for Deeper Networks"), the picture has a mean of 0 and a fixed
    standard deviation, here `contrast`, before the colours are mixed and the sigmoid is taken.

    Args:
        phases: (3, side, side // 2 + 1), radians.
        magnitudes: `natural_magnitudes` of that side.
        contrast: the standard deviation.
    """
    side = phases.shape[1]
    spectrum = magnitudes * jax.lax.complex(jnp.cos(phases), jnp.sin(phases))
    colours = jnp.fft.irfft2(spectrum, s=(side, side))
    colours = colours - colours.mean()
    return _correlated(contrast * colours / (colours.std() + 1e-6))


def _correlated(colours: jax.Array) -> jax.Array:
    """Return the RGB picture, 0..255, of independent colours (3, rows, columns)."""
    mixed = jnp.einsum("crs,dc->rsd", colours, _DECORRELATED, precision=jax.lax.Precision.HIGHEST)
    return 255 * jax.nn.sigmoid(mixed)
