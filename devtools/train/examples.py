"""Rows as token ids, by the code that serves: the prompt of a turn is what a replica would compute for it.

Every answer is an example of its own. Its prompt is rendered and tokenised by `shared.text.prompt`, its text is
tokenised as the model would write it, and the token that ends a turn follows. No template has to mark what is learnt.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from devtools.convert.decoder_version import DecoderModel, decoder_spec
from devtools.data.rows import Pair, Row, Text, Turn
from devtools.train.answer_text import answer_text
from devtools.train.recipe import Recipe
from shared.contracts.replica import ChatMessage, Generate, Tool
from shared.errors import InvalidInput
from shared.text.prompt import PromptBuilder
from shared.text.special_tokens import special_tokens
from shared.text.template_process import TemplateProcess
from shared.text.template_traits import traits_of
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import tool_form

Ids = np.ndarray[Any, np.dtype[np.int32]]
_TAKEN: dict[str, tuple[type[Row], ...]] = {
    "pretrain": (Text,), "sft": (Turn, Text), "distil": (Turn, Text), "dpo": (Pair,),
}  # fmt: skip
"""The rows that each method takes."""
_PLACEHOLDER = "LLMOS-0"


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of which the tail is learnt.

    row: id of the row that it was made of
    ids: int32 [T]
    start: the first id that is learnt; at least 1, because nothing precedes the first
    """

    row: str
    ids: Ids
    start: int

    @property
    def answer_tokens(self) -> int:
        """How many ids are learnt."""
        return len(self.ids) - self.start


Item = tuple[Example, ...]
"""What is trained on together: one example, or the chosen and the rejected one of a pair."""


class Renderer:
    """Makes examples of rows.

    Args:
        model: Tokenizer, template and special tokens.
        prompts: The prompts of a replica of `model`.
        turn_end: The token that ends an answer.
        max_len: Tokens of the longest example.
    """

    def __init__(
        self, model: DecoderModel, tokenizer: Tokenizer, prompts: PromptBuilder, turn_end: int, max_len: int
    ) -> None:
        text = model.text
        self.tokenizer, self._prompts, self._turn_end, self._max_len = tokenizer, prompts, turn_end, max_len
        self._begin = [text.bos_token_id] if text.add_bos_token and text.bos_token_id is not None else []
        self._text_end = text.eos_token_ids[0]
        self._ends = frozenset(text.eos_token_ids)
        self._form = tool_form(text.chat_template)

    async def items(self, row: Row) -> list[Item]:
        """The items of `row`: several for a text that is longer than `max_len`, none for an example that is.

        Raises:
            InvalidInput: a row of which nothing would be learnt, or one that the template refuses.
        """
        match row:
            case Text():
                return [(window,) for window in self._windows(row)]
            case Turn():
                item = [await self._example(row, row.answer, "answer")]
            case Pair():
                item = [await self._example(row, row.chosen, "chosen"),
                        await self._example(row, row.rejected, "rejected")]  # fmt: skip
            case _:
                raise InvalidInput(f"row {row.id} is a {row.kind}, which nothing is learnt from", param="data")
        fits = all(len(example.ids) <= self._max_len for example in item)
        return [tuple(item)] if fits else []

    async def prompt_ids(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> list[int]:
        """What a replica computes before it answers `messages`."""
        request = Generate(request_id="train", gateway_id="train", messages=tuple(messages), tools=tuple(tools))
        return await self._prompts.token_ids(request)

    def _windows(self, row: Text) -> list[Example]:
        """Each token is learnt once: a window begins with the last token of the one before."""
        ids = np.array([*self._begin, *self.tokenizer.encode(row.text), self._text_end], np.int32)
        if not row.text or len(ids) < 2:
            raise InvalidInput(f"row {row.id}: the text is empty: nothing would be learnt; remove it", param="text")
        step = self._max_len - 1
        return [Example(row.id, ids[at : at + self._max_len], 1) for at in range(0, len(ids) - 1, step)]

    async def _example(self, row: Turn | Pair, answer: ChatMessage, field: str) -> Example:
        text = answer_text(answer, self._form)
        if not text:
            raise InvalidInput(f"row {row.id}: {field} is empty: nothing would be learnt; remove it", param=field)
        ids = self.tokenizer.encode(text)
        inside = next((token for token in ids if token in self._ends), None)
        if inside is not None:
            raise InvalidInput(
                f"row {row.id}: {field} contains {self.tokenizer.token(inside)!r}, which ends an answer; remove it",
                param=field,
            )
        prompt = await self.prompt_ids(row.messages, row.tools)
        return Example(row.id, np.array([*prompt, *ids, self._turn_end], np.int32), max(1, len(prompt)))


@asynccontextmanager
async def rendering(model: DecoderModel, *, max_len: int) -> AsyncIterator[Renderer]:
    """A renderer with the worker process of its template."""
    tokenizer = Tokenizer(model.text.tokenizer.to_str())
    spec, text = decoder_spec(model), model.text
    async with AsyncExitStack() as stack:
        template = None
        if text.chat_template:
            process = TemplateProcess(text.chat_template, special_tokens(tokenizer, spec))
            template = await stack.enter_async_context(process.running())
        max_prompt = model.architecture.context_length
        prompts = PromptBuilder(tokenizer, template, spec, max_len=max_prompt, traits=await traits_of(template))
        end = text.eos_token_ids[0] if template is None else await _turn_end(template, tokenizer, text.eos_token_ids)
        yield Renderer(model, tokenizer, prompts, end, max_len)


async def _turn_end(template: TemplateProcess, tokenizer: Tokenizer, ends: Sequence[int]) -> int:
    """The end token that the template writes behind an answer in a conversation; the main one if it writes none.

    They differ in Llama 3, whose texts end with <|end_of_text|> and whose answers end with <|eot_id|>.
    """
    conversation = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": _PLACEHOLDER},
        {"role": "user", "content": "Hello"},
    ]
    try:
        rendered = await template.render(conversation)
    except InvalidInput:
        return ends[0]
    after = tokenizer.encode(rendered.partition(_PLACEHOLDER)[2])
    return next((token for token in after if token in ends), ends[0])


async def render_rows(renderer: Renderer, rows: Iterable[Row], recipe: Recipe) -> tuple[list[Item], list[str]]:
    """The items of `rows`, and the ids of rows that were skipped because they are longer than `recipe.max_len`.

    Raises:
        InvalidInput: a row of a kind that the method does not take, one that is too long, or no row at all.
    """
    items: list[Item] = []
    skipped: list[str] = []
    taken = _TAKEN[recipe.method]
    for row in rows:
        if not isinstance(row, taken):
            names = " and ".join(f"{kind.__name__.lower()}s" for kind in taken)
            raise InvalidInput(f"row {row.id} is a {row.kind}; method {recipe.method!r} takes {names}", param="data")
        made = await renderer.items(row)
        items += made
        if not made:
            skipped.append(row.id)
            if recipe.too_long == "refuse":
                raise InvalidInput(
                    f"row {row.id} has more than {recipe.max_len} tokens; raise max_len, shorten it, or set"
                    " too_long = 'skip'",
                    param="max_len",
                )
    if not items:
        raise InvalidInput("there is no row to learn from", param="data")
    return items, skipped
