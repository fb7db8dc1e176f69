"""Sentences spoken by espeak-ng, out of the wheel `espeakng-loader` (0.2.4), which has the library and its voices."""

import ctypes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SYNCHRONOUS = 0x02
_UTF8 = 1


def spoken(package: Path, text: str) -> tuple[NDArray[np.float32], int]:
    """(samples in [-1, 1], samples a second) of a sentence.

    Args:
        package: The folder `espeakng_loader` of the unpacked wheel.
        text: English.
    """
    library = ctypes.CDLL(str(package / "libespeak-ng.so"))
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(package / "espeak-ng-data").encode(), 0)
    assert rate > 0, "espeak-ng has no voices"
    pieces: list[NDArray[np.int16]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: object) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(collect)
    assert library.espeak_SetVoiceByName(b"en") == 0
    data = text.encode()
    assert library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None) == 0
    library.espeak_Synchronize()
    library.espeak_Terminate()
    return np.concatenate(pieces).astype(np.float32) / 32768.0, rate


def word_error_rate(expected: str, found: str) -> float:
    """Edits of words, as a part of the expected ones; letters' case and punctuation do not count."""
    words, others = (
        ["".join(filter(str.isalnum, word)) for word in text.lower().split()] for text in (expected, found)
    )
    row = list(range(len(others) + 1))
    for index, word in enumerate(words, 1):
        before, row = row, [index]
        for column, other in enumerate(others, 1):
            row.append(min(before[column] + 1, row[-1] + 1, before[column - 1] + (word != other)))
    return row[-1] / len(words)
