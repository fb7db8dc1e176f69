"""Rows to token ids: the replica's prompt, the answer that the server would write, and all of it learnt."""

import asyncio
import json

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer as HfTokenizer

from devtools.data.rows import Pair, Text, Turn
from devtools.train.answer_text import answer_text
from devtools.train.base import open_base
from devtools.train.examples import render_rows, rendering
from devtools.train.recipe import parse_recipe
from services.inference.text.detokenizer import Detokenizer
from services.inference.text.tools.parser import ToolCallParser
from shared.contracts.replica import ChatMessage, ToolCall
from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import HERMES, LLAMA, MISTRAL
from tests.support.models.awkward_text import AWKWARD
from tests.support.models.small_tokenizers import byte_fallback, byte_level
from tests.support.train.nano_runs import base, said, turns

pytestmark = pytest.mark.train


@pytest.fixture
def model(tmp_path):
    return open_base(base(tmp_path))


def with_text(model, **changes):
    return replace(model, text=replace(model.text, **changes))


def render(model, rows, **recipe):
    async def run():
        parsed = parse_recipe({"max_len": 128, **recipe})
        async with rendering(model, max_len=parsed.max_len) as renderer:
            return await render_rows(renderer, rows, parsed)

    return asyncio.run(run())


def one(model, row, **recipe):
    ((item,), _) = render(model, [row], **recipe)
    return item


def test_a_turn_is_prompt_and_answer_and_end(model):
    row = Turn(messages=(said("user", "the fox"),), answer=said("assistant", "ran home"))
    (example,) = one(model, row)
    tokenizer = Tokenizer(model.text.tokenizer.to_str())
    prompt = tokenizer.encode("<|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n")
    assert example.ids[: example.start].tolist() == prompt
    assert example.ids[example.start :].tolist() == [*tokenizer.encode("ran home"), 2]
    assert example.row == row.id


def test_a_pair_is_two_examples_with_one_prompt(model):
    row = Pair(messages=(said("user", "a"),), chosen=said("assistant", "good"), rejected=said("assistant", "bad"))
    chosen, rejected = one(model, row, method="dpo")
    assert chosen.start == rejected.start
    assert (chosen.ids[: chosen.start] == rejected.ids[: chosen.start]).all()
    assert chosen.ids[chosen.start :].tolist() != rejected.ids[rejected.start :].tolist()


def test_every_token_of_a_text_is_learnt_once(model):
    text = "the red fox saw a small dog near an old house and ran home " * 5
    items, _ = render(model, [Text(text=text)], method="pretrain", max_len=32)
    tokenizer = Tokenizer(model.text.tokenizer.to_str())
    assert len(items) > 3
    assert max(len(item[0].ids) for item in items) <= 32
    learnt = [token for item in items for token in item[0].ids[item[0].start :].tolist()]
    whole = [*tokenizer.encode(text), 2]
    assert learnt == (whole if model.text.add_bos_token else whole[1:])


@pytest.mark.parametrize(("end", "expected"), [("<|im_end|>", 2), ("<|endoftext|>", 0), ("", 0)])
def test_the_end_token_is_the_one_that_the_template_writes_behind_an_answer(model, end, expected):
    """Llama 3: <|end_of_text|> ends a text and <|eot_id|> an answer."""
    text = {"eos_token_ids": (0, 2), "chat_template": model.text.chat_template.replace("<|im_end|>", end)}
    (example,) = one(with_text(model, **text), turns(1)[0])
    assert example.ids[-1] == expected


def test_without_a_template_messages_are_refused(model):
    with pytest.raises(InvalidInput, match="no chat template"):
        render(with_text(model, chat_template=None), turns(1))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            Turn(messages=(said("user", "a"),), answer=said("assistant", "")),
            "answer is empty: nothing would be learnt",
        ),
        (Turn(messages=(said("user", "a"),), answer=said("assistant", "b<|im_end|>c")), "contains '<|im_end|>'"),
        (Turn(messages=(said("user", "word " * 60),), answer=said("assistant", "b")), "more than 128 tokens"),
        (Text(text=""), "the text is empty"),
        (
            Pair(messages=(said("user", "a"),), chosen=said("assistant", "b"), rejected=said("assistant", "c")),
            "is a pair; method 'sft' takes turns and texts",
        ),
    ],
    ids=["empty answer", "end token inside", "too long", "empty text", "other kind"],
)
def test_a_row_that_teaches_nothing_or_wrongly_is_refused_by_its_id(model, row, message):
    with pytest.raises(InvalidInput, match=row.id) as caught:
        render(model, [*turns(2), row])
    assert message in caught.value.message


def test_no_rows_are_refused(model):
    with pytest.raises(InvalidInput, match="no row to learn from"):
        render(model, [])


def test_rows_that_are_too_long_can_be_skipped_and_are_counted(model):
    long = Turn(messages=(said("user", "word " * 60),), answer=said("assistant", "b"))
    items, skipped = render(model, [*turns(3), long], too_long="skip")
    assert len(items) == 3
    assert skipped == [long.id]


@pytest.mark.parametrize("definition", [byte_level(), byte_fallback()], ids=["byte level", "byte fallback"])
@pytest.mark.parametrize("text", [text for text in AWKWARD if text and "<|" not in text])
def test_the_server_would_write_the_answer_that_is_learnt(model, definition, text):
    fallback = '"byte_fallback": true' in definition
    changes = {"tokenizer": HfTokenizer.from_str(definition)}
    changes |= {"chat_template": "{{ messages[-1].content }}</s>", "eos_token_ids": (2,)} if fallback else {}
    row = Turn(messages=(said("user", "a"),), answer=said("assistant", text))
    (example,) = one(with_text(model, **changes), row, max_len=512)
    detokenizer = Detokenizer(Tokenizer(definition))
    written = (
        "".join(detokenizer.push(int(token)) for token in example.ids[example.start : -1]) + detokenizer.finish()
    )
    assert written == text
    assert example.ids[-1] == 2


CALLS = (ToolCall(id="c1", name="weather", arguments='{"city": "Zürich", "days": [1, 2]}'),
         ToolCall(id="c2", name="time", arguments="{}"))  # fmt: skip


@pytest.mark.parametrize("form", [HERMES, LLAMA, MISTRAL], ids=lambda form: form.name)
def test_the_engine_parses_the_calls_of_an_answer(form):
    message = ChatMessage(role="assistant", content="" if form is LLAMA else "I look.", tool_calls=CALLS)
    parser = ToolCallParser(form, lambda n: "x" * n)
    pieces = [*parser.push(answer_text(message, form)), *parser.finish(cut=False)]
    calls = [piece for piece in pieces if not isinstance(piece, str)]
    assert [call.name for call in calls] == ["weather", "time"]
    assert [json.loads(call.arguments) for call in calls] == [json.loads(call.arguments) for call in CALLS]
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == message.content


def test_ids_are_those_of_the_vocabulary(model):
    items, _ = render(model, turns(20))
    assert all(np.issubdtype(item[0].ids.dtype, np.int32) for item in items)
    assert max(int(item[0].ids.max()) for item in items) < model.architecture.vocab_size
