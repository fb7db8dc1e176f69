"""Copies within a GPU's memory, and between it and the host's.

ONNX Runtime's Python interface copies whole tensors; a slot's first tokens are a piece of each head. The CUDA runtime
that ONNX Runtime has loaded copies such pieces in one call (`cudaMemcpy2D`).
"""

import ctypes

import onnxruntime as ort

from shared.errors import Internal, InvalidInput

_ANY_DIRECTION = 4
"""`cudaMemcpyDefault`: the runtime sees from the addresses where each side is."""


class CudaCopier:
    """Implements `device_kv.Copier`. Raises InvalidInput if the CUDA runtime can't be loaded."""

    def __init__(self) -> None:
        major = (ort.cuda_version or "13").split(".")[0]
        try:
            library = ctypes.CDLL(f"libcudart.so.{major}")
        except OSError as error:
            raise InvalidInput(
                f"the CUDA {major} runtime can't be loaded: {error}; install 'llmos[inference-gpu]', which brings it",
                param="device",
            ) from error
        self._copy = library.cudaMemcpy2D
        self._copy.argtypes = (
            *(ctypes.c_void_p, ctypes.c_size_t),
            *(ctypes.c_void_p, ctypes.c_size_t),
            *(ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int),
        )
        self._wait = library.cudaDeviceSynchronize
        self._describe = library.cudaGetErrorString
        self._describe.restype = ctypes.c_char_p

    def rows(self, to: int, to_pitch: int, source: int, source_pitch: int, *, width: int, count: int) -> None:
        """See `Copier.rows`."""
        self._check(self._copy(to, to_pitch, source, source_pitch, width, count, _ANY_DIRECTION))

    def wait(self) -> None:
        """See `Copier.wait`."""
        self._check(self._wait())

    def _check(self, status: int) -> None:
        if status != 0:
            raise Internal(f"CUDA failed to copy keys and values: {self._describe(status).decode()} ({status})")
