"""A log-mel spectrogram as Whisper was trained on (Radford et al. 2022, arXiv:2212.04356, section 2.2)."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Samples a second."""
HOP = 160
"""Samples from frame to frame: 10 ms."""
_WINDOW = 400
"""Samples of a frame: 25 ms."""
_FLOOR = 1e-10
_RANGE = 8.0
"""What lies more than this below the loudest, in powers of ten, is cut off."""


def log_mel(samples: NDArray[np.float32], *, bins: int, frames: int) -> NDArray[np.float32]:
    """float32 [bins, frames] of samples in [-1, 1] at 16 kHz, silence after them.

    Raises ValueError if they are longer than `frames`.
    """
    length = frames * HOP
    if len(samples) > length:
        raise ValueError(f"{len(samples)} samples do not fit in {frames} frames")
    padded = np.pad(samples.astype(np.float64), (0, length - len(samples)))
    padded = np.pad(padded, _WINDOW // 2, mode="reflect")
    cut = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][:frames]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    power = np.abs(np.fft.rfft(cut * window, axis=1)) ** 2
    logs = np.log10(np.maximum(power @ mel_filters(bins), _FLOOR))
    scaled: NDArray[np.float32] = ((np.maximum(logs, logs.max() - _RANGE) + 4.0) / 4.0).T.astype(np.float32)
    return np.ascontiguousarray(scaled)


@cache
def mel_filters(bins: int) -> NDArray[np.float64]:
    """float64 [201, bins]: triangles of equal area, spaced by Slaney's mel scale from 0 to 8 kHz.

    Source: M. Slaney, "Auditory Toolbox", 1998, as librosa has it, which made the filters of Whisper's training.
    """
    points = _hertz(np.linspace(0.0, _mel(SAMPLE_RATE / 2), bins + 2))
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)
    rising = (frequencies[:, None] - points[:-2]) / np.diff(points)[:-1]
    falling = (points[2:] - frequencies[:, None]) / np.diff(points)[1:]
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (points[2:] - points[:-2]))
    return filters


_LINEAR_HZ = 200.0 / 3
"""Hertz to a mel, below the break."""
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0
"""Of the logarithm to a mel, above it."""


def _mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ
    return float(_BREAK_HZ / _LINEAR_HZ + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    edge = _BREAK_HZ / _LINEAR_HZ
    return np.where(mels < edge, mels * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mels - edge)))
