"""Quantises a model on its way into a version, and judges by perplexity whether it still is the model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from devtools.convert.decoder_version import DecoderModel, Progress, write_version
from devtools.convert.quantise.source import QuantisedSource
from devtools.convert.verify.perplexity import Original, measure_graph, measure_original, text_windows
from devtools.quantization import Quantize, Scheme
from shared.contracts.manifest import Manifest
from shared.errors import UnsupportedFormat
from shared.storage.scratch import scratch_folder

GOOD, TOLERABLE = 1.05, 1.25
"""Perplexity over the original's: up to which `auto` takes int4, and above which nothing is written."""

_log = structlog.get_logger("llmos.convert")


class _TooLossy(Exception):
    """The scheme is below what `auto` settles for; never leaves this module."""


def write_quantised_version(
    model: DecoderModel, destination: Path, quantize: Quantize, *, progress: Progress
) -> Manifest:
    """`write_version` with the matrices of `model`, whose weights are floats, in `quantize`.

    The manifest's metrics have `perplexity_original` and `perplexity`, on the same text. `progress` is called with
    the stages `measure` (the original), `build`, `check`, `compare` and `finish`.

    Raises:
        UnsupportedFormat: the quantised model's perplexity is more than 25 % above the original's.
        StorageFull: no room for the files.
    """
    if quantize == "none":
        return write_version(model, destination, progress=progress)
    windows = text_windows(model.text, model.architecture.context_length)
    progress("measure", 0.0)
    original = measure_original(model.architecture, model.weights, windows, lambda done: progress("measure", done))
    if quantize == "auto":
        try:
            return _write(model, destination, "int4", original, windows, limit=GOOD, progress=progress)
        except _TooLossy as loss:
            _log.info("int4.refused", using="int8", source=model.source, reason=str(loss))
            quantize = "int8"
    return _write(model, destination, quantize, original, windows, limit=None, progress=progress)


def _write(
    model: DecoderModel,
    destination: Path,
    scheme: Scheme,
    original: Original,
    windows: list[list[int]],
    *,
    limit: float | None,
    progress: Progress,
) -> Manifest:
    def judge(folder: Path) -> Mapping[str, float]:
        progress("compare", 0.0)
        perplexity = measure_graph(folder, model.architecture, windows, lambda done: progress("compare", done))
        ratio = perplexity / original.perplexity
        verdict = f"perplexity {perplexity:.2f} in {scheme}, {original.perplexity:.2f} before ({ratio - 1:+.1%})"
        if limit is not None and not ratio <= limit:
            raise _TooLossy(verdict)
        if not ratio <= TOLERABLE:
            raise UnsupportedFormat(
                f"quantising loses too much: {verdict}. Nothing was written; try"
                f" --quantize {'int8' if scheme == 'int4' else 'none'}",
                param="quantize",
            )
        if ratio > GOOD:
            _log.warning("quantising.lost_quality", source=model.source, verdict=verdict)
        return {"perplexity": perplexity, "perplexity_original": original.perplexity}

    with scratch_folder(_existing(destination), f".{destination.name}.quantised-") as scratch:
        weights = QuantisedSource(model.weights, scheme, scratch, original.importance)
        return write_version(replace(model, weights=weights), destination, progress=progress, judge=judge)


def _existing(destination: Path) -> Path:
    """The folder in which `destination` lies, made if need be: the large files go where there is room for them."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    return destination.parent
