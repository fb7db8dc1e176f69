"""The process that decodes sound: `python -m services.gateway.openai.audio.decode MAX_SECONDS`.

Reads a file from standard input and writes 16-bit samples of one channel, 16,000 a second, to standard output, which
is a file. Formats are libsndfile's: WAV, FLAC, MP3, Ogg and others. A line on standard error and exit code 3 say what
is wrong with the file. It is a process of its own because files of strangers are read by a library in C.
"""

import resource
import sys

import numpy as np
import soundfile
import soxr

RATE = 16_000
REFUSED = 3
_BLOCK = 1 << 16
"""Frames that are decoded at once."""
_MEMORY = 1 << 30
_CPU_S = 120
_MAX_CHANNELS = 16


def main(max_seconds: float) -> str | None:
    """Decode; returns what is wrong with the file, or None."""
    try:
        with soundfile.SoundFile(sys.stdin.buffer.fileno(), closefd=False) as file:
            rate, channels = file.samplerate, file.channels
            if not 1000 <= rate <= 768_000 or not 1 <= channels <= _MAX_CHANNELS:
                return f"it has {channels} channels at {rate} samples a second, which is not supported"
            if file.frames > max_seconds * rate:
                return _too_long(max_seconds, file.frames / rate)
            resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32")
            seen = 0
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                seen += len(block)
                if seen > max_seconds * rate:
                    return _too_long(max_seconds, None)
                _write(resampler.resample_chunk(block.mean(axis=1)))
            _write(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        return f"it can't be read as sound ({error}); send WAV, FLAC, MP3 or Ogg"
    return None if seen else "it has no sound in it"


def _too_long(max_seconds: float, seconds: float | None) -> str:
    found = "it is longer" if seconds is None else f"it has {seconds / 3600:.1f} hours"
    return f"{found}; at most {max_seconds / 3600:g} hours are taken: cut it into parts"


def _write(samples: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> None:
    scaled = np.clip(np.nan_to_num(samples) * 32767.0, -32768, 32767)
    sys.stdout.buffer.write(np.round(scaled).astype("<i2").tobytes())


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    problem = main(float(sys.argv[1]))
    sys.stdout.buffer.flush()
    if problem is not None:
        sys.stderr.write(problem)
        sys.exit(REFUSED)
