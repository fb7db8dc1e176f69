"""The GPUs that this node offers, from the driver (NVML), as `nvidia-smi` reads them."""

import importlib
import os
import re
from collections.abc import Mapping
from typing import Any

import structlog

from shared.contracts.scheduler import Gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
MEMORY_SHARE = 0.9
"""Share of the memory that is free at the start; the rest is for the driver and other programs."""

_log = structlog.get_logger("llmos.agent")


def find_gpus(environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """The GPUs that ONNX Runtime here can compute on; none without a driver, or without CUDA in ONNX Runtime.

    Args:
        environment: `CUDA_VISIBLE_DEVICES` in it hides GPUs from this node as from any program.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:  # it comes with 'llmos[inference-gpu]' only
        return ()
    gpus = visible(query(nvml), environment.get(VISIBLE))
    if not gpus:
        return ()
    # Only after a GPU was found: the import takes 40 MB.
    runtime = importlib.import_module("services.inference.runtime.session")
    if not runtime.has_cuda():
        _log.warning(
            "gpus.unused",
            reason="this ONNX Runtime has no CUDA; install 'llmos[inference-gpu]'",
            gpus=[gpu.name for gpu in gpus],
        )
        return ()
    return gpus


def query(nvml: Any) -> tuple[Gpu, ...]:
    """All GPUs of this machine in the driver's order, with the memory that is free now.

    Args:
        nvml: The module `pynvml` (NVIDIA's `nvidia-ml-py`).
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:  # no driver, or one that fails
        _log.info("gpus.none", reason=str(error))
        return ()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(
                id=_text(nvml.nvmlDeviceGetUUID(handle)),
                name=_text(nvml.nvmlDeviceGetName(handle)),
                memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).free * MEMORY_SHARE),
            )
            for handle in handles
        )
    except nvml.NVMLError as error:
        _log.warning("gpus.query_failed", error=str(error))
        return ()
    finally:
        nvml.nvmlShutdown()


def visible(gpus: tuple[Gpu, ...], setting: str | None) -> tuple[Gpu, ...]:
    """Those that `CUDA_VISIBLE_DEVICES` leaves: indices or beginnings of UUIDs, up to the first that is neither."""
    if setting is None:
        return gpus
    found: list[Gpu] = []
    for entry in (part.strip() for part in setting.split(",")):
        if re.fullmatch(r"\d+", entry):
            chosen = gpus[int(entry) : int(entry) + 1]
        else:
            chosen = tuple(gpu for gpu in gpus if entry.startswith("GPU-") and gpu.id.startswith(entry))
        if len(chosen) != 1 or chosen[0] in found:
            break
        found.append(chosen[0])
    return tuple(found)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
