"""What the lesson proves: exact answers to unseen sentences before and after training."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from devtools.convert.decoder_version import DecoderModel
from devtools.data.rows import read_rows
from devtools.train.assemble import open_decoder
from devtools.train.base import open_base
from devtools.train.batches import make_batch
from devtools.train.examples import Item, render_rows, rendering
from devtools.train.lines import lay_out
from devtools.train.model.decoder import Decoder
from devtools.train.model.peft import read_peft
from devtools.train.options import RunOptions
from devtools.train.progress import OnEvent
from devtools.train.recipe import Recipe, read_recipe
from devtools.train.run import train

HERE = Path(__file__).parent
TICKETS, UNSEEN, RECIPE = HERE / "tickets.jsonl", HERE / "unseen.jsonl", HERE / "recipe.toml"


@dataclass(frozen=True, slots=True)
class Proof:
    """How many of `unseen` sentences get their code.

    before, after: training
    processor_s: of reading, both measurements and training
    digest: of the adapter
    """

    unseen: int
    before: int
    after: int
    processor_s: float
    digest: str


def prove(base: Path, output: Path, *, on_event: OnEvent, threads: int | None = None, seed: int = 0) -> Proof:
    """Measure, train, and measure again; the adapter is in `output/result`."""
    began = time.process_time()
    if threads is not None:
        torch.set_num_threads(threads)
    recipe = read_recipe(RECIPE, [f"seed={seed}"])
    model = open_base(base)
    items = asyncio.run(_render(model, recipe))
    decoder, _ = open_decoder(model, max_len=recipe.max_len, keep_codes=False)
    before = exact_answers(decoder, items)
    finished = train(
        recipe, RunOptions(data=(TICKETS,), output=output, base=base, threads=threads), on_event=on_event
    )
    assert finished is not None, "nothing asks it to stop"
    read_peft(Path(finished.path), decoder)
    after = exact_answers(decoder, items)
    return Proof(len(items), before, after, round(time.process_time() - began, 1), finished.digest)


async def _render(model: DecoderModel, recipe: Recipe) -> Sequence[Item]:
    async with rendering(model, max_len=recipe.max_len) as renderer:
        items, _ = await render_rows(renderer, read_rows(UNSEEN), recipe)
    return items


@torch.no_grad()
def exact_answers(decoder: Decoder, items: Sequence[Item]) -> int:
    """How many answers `decoder` would write to the last token, end token included, at temperature 0.

    Each token of the answer is the most probable one after those before it: then so is the whole, token by token.
    """
    decoder.eval()
    exact = 0
    for lines in lay_out(items, tokens=1024, packing="yes", length=512):
        batch = make_batch(lines)
        states = batch.before(decoder.hidden(decoder.embed(batch.ids), batch.places))
        right = decoder.head(states).argmax(-1) == batch.targets
        wrong = torch.zeros(len(batch.examples)).index_add(0, batch.owners, (~right).float())
        exact += int((wrong == 0).sum())
    return exact


def as_line(proof: Proof) -> str:
    """The proof as a line of JSON."""
    return json.dumps(asdict(proof))
