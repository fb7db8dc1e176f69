"""The decoder of a run: base, adapter, dropout; checked against the reference before the first step."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import prod, sqrt
from pathlib import Path

import psutil

from devtools.convert.decoder_version import DecoderModel
from devtools.train.batches import make_batch
from devtools.train.examples import Item
from devtools.train.lines import lay_out
from devtools.train.model.check import TOKENS, check_decoder
from devtools.train.model.decoder import Decoder
from devtools.train.model.lora import LoraShape, add_lora
from devtools.train.model.peft import read_peft
from devtools.train.objective.objective import Reference, answer_log_probabilities
from devtools.train.recipe import Recipe
from shared.errors import InvalidInput


def assemble(
    model: DecoderModel, recipe: Recipe, *, adapter: Path | None, keep_codes: bool | None, recompute: bool
) -> tuple[Decoder, LoraShape | None, float]:
    """The decoder that is trained, the shape of its adapter, and the largest difference to the reference.

    Args:
        model: The base.
        recipe: What is trained.
        adapter: PEFT's folder of one that is trained on; None: a new one.
        keep_codes: Whether frozen matrices stay quantised; None: where floats would be too large.
        recompute: Whether layers are computed again on the way back.

    Raises:
        InvalidInput: an adapter that does not fit.
        Internal: the decoder does not compute what the reference does.
    """
    if recipe.weights != "adapter" and (adapter is not None or keep_codes):
        raise InvalidInput(
            f"weights = {recipe.weights!r} trains all weights: there is no adapter, and nothing stays quantised",
            param="weights",
        )
    if recipe.weights == "adapter" and keep_codes is None:
        keep_codes = _is_large(model)
    decoder, error = open_decoder(model, max_len=recipe.max_len, keep_codes=bool(keep_codes))
    decoder.recompute = recompute
    shape = None if recipe.weights != "adapter" else _adapt(decoder, recipe, adapter)
    decoder.set_dropout(recipe.robust.dropout)
    return decoder.train(), shape, error


def open_decoder(model: DecoderModel, *, max_len: int, keep_codes: bool) -> tuple[Decoder, float]:
    """The decoder of `model`, and the largest difference of a logit to the reference."""
    arch, text = model.architecture, model.text
    decoder = Decoder(arch, model.weights, max_len=max(max_len, TOKENS), keep_codes=keep_codes)
    first = text.bos_token_id if text.add_bos_token else None
    return decoder, check_decoder(decoder, arch, model.weights, first=first)


def frozen(model: DecoderModel, *, max_len: int) -> Decoder:
    """The decoder of a teacher."""
    decoder, _ = open_decoder(model, max_len=max_len, keep_codes=_is_large(model))
    return decoder.eval().requires_grad_(False)


def reference_of(
    decoder: Decoder, items: Sequence[Item], recipe: Recipe, precision: AbstractContextManager[None]
) -> Reference:
    """Log P of each pair's answers by `decoder` as it is now, before training."""
    decoder.eval()
    found: dict[str, tuple[float, float]] = {}
    with precision:
        for lines in lay_out(items, tokens=recipe.compute.micro_tokens):
            batch = make_batch(lines)
            both = answer_log_probabilities(decoder, batch)
            rows_of_pairs = [example.row for example in batch.examples[0::2]]
            found |= dict(zip(rows_of_pairs, zip(both[0::2], both[1::2], strict=True), strict=True))
    decoder.train()
    return found


def _adapt(decoder: Decoder, recipe: Recipe, adapter: Path | None) -> LoraShape:
    table = recipe.adapter
    if adapter is None:
        scale = table.alpha / (sqrt(table.rank) if table.rslora else table.rank)
        shape = LoraShape(table.rank, scale, tuple(table.targets), table.dropout, table.dora)
        add_lora(decoder, shape, seed=recipe.seed)
        return shape
    if given := table.model_fields_set - {"dropout"}:
        raise InvalidInput(
            f"adapter.{min(given)} has no effect on an adapter that exists; remove it", param=f"adapter.{min(given)}"
        )
    return read_peft(adapter, decoder, dropout=table.dropout)


def _is_large(model: DecoderModel) -> bool:
    """Whether the weights as floats would take a third of the free memory."""
    floats = 4 * sum(prod(model.weights.shape(name)) for name in model.weights.names())
    return floats > psutil.virtual_memory().available // 3
