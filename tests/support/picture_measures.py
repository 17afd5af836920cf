"""Measures of a dream: what it clips, how noisy its colours are, and how large its forms. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Two axes of colour, of unit length, at right angles to grey and to each other.
CHROMA_AXES = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
#: Wavelength below which differences of colour are noise to the eye, px.
NOISE_WAVELENGTH = 4.0
#: Share of a picture's width from which on a form is coarse.
COARSE_PART = 1 / 16
#: Share of a change's energy that lies in forms at least as large as its largest.
LARGEST_SHARE = 0.1

Pixels = NDArray[np.floating]


def clipped_share(pixels: Pixels) -> float:
    """Return the share of the pixels of (rows, columns, 3), 0..255, with a channel at 0 or 255 in 8 bits."""
    levels = np.rint(pixels)
    return float(((levels <= 0) | (levels >= 255)).any(-1).mean())


def chroma_noise(change: Pixels, wavelength: float = NOISE_WAVELENGTH) -> float:
    """Return the energy of a change in the two chroma axes at short wavelengths, levels squared for each pixel.

    Args:
        change: Dream minus source, (rows, columns, 3).
        wavelength: Wavelength below which energy counts, px.
    """
    lengths, energies = spectrum(change @ CHROMA_AXES.T)
    return float(energies[lengths < wavelength].sum())


def coarse_share(change: Pixels, part: float = COARSE_PART) -> float:
    """Return the share of a change's energy at wavelengths above a part of the picture's width, 0..1.

    Args:
        change: Dream minus source, (rows, columns, channels).
        part: The part of the width.
    """
    lengths, energies = spectrum(change)
    return float(energies[lengths > part * change.shape[1]].sum() / energies.sum())


def largest_form(change: Pixels, share: float = LARGEST_SHARE) -> float:
    """Return the wavelength, px, above which this share of a change's energy lies.

    Args:
        change: Dream minus source, (rows, columns, channels).
        share: The share, 0..1.
    """
    lengths, energies = spectrum(change)
    order = np.argsort(-lengths, kind="stable")
    reached = np.searchsorted(np.cumsum(energies[order]), share * energies.sum())
    return float(lengths[order][min(int(reached), len(order) - 1)])


def spectrum(change: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the wavelengths, px, and the energies of a change's Fourier components, all channels together.

    The mean is no component. A Hann window keeps the edges, which do not continue each other, from counting as detail; the
    energies are made up for it, so that their sum is about the mean square of the change.

    Args:
        change: (rows, columns, channels).
    """
    rows, columns = change.shape[:2]
    window = _hann(rows)[:, None] * _hann(columns)
    weight = np.square(window).sum()
    energies = np.zeros((rows, columns))
    for channel in np.moveaxis(np.asarray(change, np.float64), -1, 0):
        centred = channel - (channel * window).sum() / window.sum()
        energies += np.square(np.abs(np.fft.fft2(centred * window))) / (rows * columns * weight)
    frequencies = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns))
    # The first is the mean.
    return 1 / frequencies.ravel()[1:], energies.ravel()[1:]


def _hann(length: int) -> NDArray[np.float64]:
    """Return a Hann window that is nowhere 0."""
    return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
