"""What a run starts from: base, rows as items, held-out items, teacher; read and checked."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from devtools.convert.decoder_version import DecoderModel
from devtools.data.rows import Pair, Row, Text, Turn, read_rows, rows_digest
from devtools.train.base import open_base
from devtools.train.examples import Item, render_rows, rendering
from devtools.train.model.gpt import CONTEXT, new_model, train_tokenizer
from devtools.train.recipe import Recipe
from devtools.train.result.folders import whole_folder
from devtools.train.result.hf_config import hf_config
from devtools.train.result.hf_directory import write_hf_directory
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Inputs:
    """Read and rendered.

    model: the base
    items: that are trained on
    validation: that are held out
    skipped: ids of rows that are longer than max_len
    data_digest: SHA-256 of the ids of all rows
    teacher: of method distil
    """

    model: DecoderModel
    items: Sequence[Item]
    validation: Sequence[Item]
    skipped: Sequence[str]
    data_digest: str
    teacher: DecoderModel | None


def read_inputs(
    recipe: Recipe,
    *,
    base: Path | None,
    data: Sequence[Path],
    validation: Path | None,
    teacher: Path | None,
    scratch: Path,
) -> Inputs:
    """Read all that a run needs.

    Args:
        recipe: Says what is needed.
        base: A GGUF or a Hugging Face directory; None with weights = 'scratch'.
        data: JSONL files of rows.
        validation: Another; without it, `validation.share` of the rows is held out.
        teacher: With method distil.
        scratch: Where a new model is written before it is trained.

    Raises:
        InvalidInput: something is missing, damaged, or does not fit together.
        NotFound: a file does not exist.
    """
    rows = [row for path in data for row in read_rows(path)]
    held_out = list(read_rows(validation)) if validation is not None else []
    digest = rows_digest([row.id for row in (*rows, *held_out)])
    if validation is None:
        rows, held_out = _split(rows, recipe.validation.share)
    elif recipe.validation.share:
        raise InvalidInput("give either validation rows or validation.share", param="validation.share")
    if not held_out and recipe.validation.model_fields_set:
        key = min(recipe.validation.model_fields_set)
        raise InvalidInput(
            f"validation.{key} has no effect without held-out rows: set validation.share, or give a file of them",
            param=f"validation.{key}",
        )
    if recipe.weights == "scratch":
        model = _new_base(recipe, base, rows, scratch)
    elif base is None:
        raise InvalidInput(f"weights = {recipe.weights!r} needs a model to start from (--base)", param="base")
    else:
        model = open_base(base)
    if recipe.max_len > model.architecture.context_length:
        raise InvalidInput(
            f"max_len is {recipe.max_len}, and this model takes {model.architecture.context_length} tokens",
            param="max_len",
        )
    teaching = _open_teacher(recipe, teacher, model)
    items, held_out_items, skipped = asyncio.run(_render(model, recipe, rows, held_out))
    return Inputs(model, items, held_out_items, skipped, digest, teaching)


async def _render(
    model: DecoderModel, recipe: Recipe, rows: Iterable[Row], held_out: Sequence[Row]
) -> tuple[list[Item], list[Item], list[str]]:
    async with rendering(model, max_len=recipe.max_len) as renderer:
        items, skipped = await render_rows(renderer, rows, recipe)
        if not held_out:
            return items, [], skipped
        validation, too_long = await render_rows(renderer, held_out, recipe)
        return items, validation, skipped + too_long


def _split(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to hold out, by their ids: a row stays where it is when others are added."""
    if not share:
        return list(rows), []
    held_out = [int(row.id[:8], 16) < share * 2**32 for row in rows]
    if all(held_out) or not any(held_out):
        missing = "train on" if all(held_out) else "hold out"
        raise InvalidInput(
            f"validation.share {share:g} of {len(rows)} rows leaves none to {missing}", param="validation.share"
        )
    return (
        [row for row, out in zip(rows, held_out, strict=True) if not out],
        [row for row, out in zip(rows, held_out, strict=True) if out],
    )


def _new_base(recipe: Recipe, base: Path | None, rows: Sequence[Row], folder: Path) -> DecoderModel:
    """A new model, written to `folder` once, so that a resumed run starts from the same."""
    if base is not None:
        raise InvalidInput("weights = 'scratch' takes no base", param="base")
    if not folder.exists():
        tokenizer = train_tokenizer(_texts(rows), recipe.scratch.vocab)
        model = new_model(
            tokenizer, recipe.scratch.size, seed=recipe.seed, context_length=max(CONTEXT, recipe.max_len)
        )
        weights = model.weights
        with whole_folder(folder) as staging:
            config = hf_config(model.architecture, weights)
            write_hf_directory(staging, model, config, _tensors(model))
    return open_base(folder)


def _tensors(model: DecoderModel) -> Iterable[tuple[str, torch.Tensor]]:
    return ((name, torch.from_numpy(model.weights.dequantise(name))) for name in model.weights.names())


def _texts(rows: Iterable[Row]) -> Iterable[str]:
    for row in rows:
        if isinstance(row, Text):
            yield row.text
        elif isinstance(row, Turn | Pair):
            answers = [row.answer] if isinstance(row, Turn) else [row.chosen, row.rejected]
            yield from (message.content for message in (*row.messages, *answers))


def _open_teacher(recipe: Recipe, path: Path | None, model: DecoderModel) -> DecoderModel | None:
    if (recipe.method == "distil") != (path is not None):
        raise InvalidInput("a teacher and method = 'distil' go together", param="teacher")
    if path is None:
        return None
    teacher = open_base(path)
    if teacher.text.tokenizer.get_vocab() != model.text.tokenizer.get_vocab():
        raise InvalidInput(
            "teacher and base have different tokenizers: their probabilities are about different tokens",
            param="teacher",
        )
    return teacher
