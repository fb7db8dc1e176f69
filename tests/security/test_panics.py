"""A panic of a library in Rust is an answer: it derives from BaseException, which `except Exception` does not see."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer

from devtools.convert import convert_encoder, convert_hf
from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.engine.scripted_decoder import ScriptedDecoder
from shared.bus import rpc
from shared.bus.port import Message
from shared.bus.replies import reply_of, unwrap
from shared.contracts.base import Empty
from shared.contracts.replica import drain_endpoint
from shared.contracts.tokenization import Tokenize
from shared.errors import CorruptFile, Internal, InvalidInput
from shared.panics import STOPS
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import memory_replica, request
from tests.support.models.hf_files import write_hf
from tests.support.models.small_encoder import write_small_encoder
from tests.support.models.small_model import write_small_gguf
from tests.support.models.small_tokenizers import byte_level

HOSTILE = "x" * 200


class Panic(BaseException):
    """As PyO3's: no Exception."""


def backtracking(definition: str) -> str:
    """The tokenizer with a regular expression that gives up, and panics, on a run of x."""
    tokenizer = HfTokenizer.from_str(definition)
    cut = pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, tokenizer.pre_tokenizer])
    return str(tokenizer.to_str())


def test_the_library_panics_on_this_text_still() -> None:
    with pytest.raises(BaseException, match="retry-limit") as caught:
        HfTokenizer.from_str(backtracking(byte_level())).encode(HOSTILE)
    assert not isinstance(caught.value, Exception)


async def test_a_text_that_makes_the_tokenizer_panic_is_answered() -> None:
    tokenizer = Tokenizer(backtracking(byte_level()))
    async with AsyncExitStack() as stack:
        replica = await memory_replica(stack, tokenizer, max_len=4096)
        for long in (HOSTILE, HOSTILE + "a " * 3000):  # the second one is tokenised in a thread
            with pytest.raises(InvalidInput, match="tokenizer fails"):
                await replica.generate(request(prompt=long))
            with pytest.raises(InvalidInput, match="tokenizer fails"):
                await replica.tokenization.tokenize(Tokenize(prompt=long))
        assert (await replica.frames_of(request(prompt="hello")))[-1].finish_reason == "length"


def test_texts_for_an_encoder_that_make_the_tokenizer_panic_are_answered(tmp_path: Path) -> None:
    definition = (write_small_encoder(tmp_path) / "tokenizer.json").read_text()
    tokenizer = EncoderTokenizer(backtracking(definition), vocab_size=1000, max_len=512)
    for ask in (
        lambda: tokenizer.texts(["fine", HOSTILE]),
        lambda: tokenizer.texts([HOSTILE], truncate=8),
        lambda: tokenizer.encode(HOSTILE, special=True),
    ):
        with pytest.raises(InvalidInput, match="tokenizer fails"):
            ask()


def test_hostile_texts_are_tried_at_an_import(tmp_path: Path) -> None:
    encoder = write_small_encoder(tmp_path / "encoder")
    decoder = write_hf(tmp_path / "decoder", write_small_gguf(tmp_path / "small.gguf"))
    for source, convert in ((encoder, convert_encoder), (decoder, convert_hf)):
        path = source / "tokenizer.json"
        tokenizer = HfTokenizer.from_str(path.read_text())
        cut = pre_tokenizers.Split(Regex("(a+a+)+y"), "isolated")
        before = [] if tokenizer.pre_tokenizer is None else [tokenizer.pre_tokenizer]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, *before])
        path.write_text(tokenizer.to_str())
        with pytest.raises(CorruptFile, match="fails on a text that begins with 'aaaa"):
            convert(source, tmp_path / "version")
        assert not (tmp_path / "version").exists()


async def test_an_endpoint_answers_whatever_its_handler_raises(buses) -> None:
    raised: list[BaseException] = [Panic("boom"), asyncio.CancelledError(), ExceptionGroup("g", [ValueError()])]
    raised.append(BaseExceptionGroup("g", [Panic("boom")]))
    endpoint = drain_endpoint("replica-1")
    server, client = await buses.connect(), await buses.connect()

    async def handler(_: Empty) -> Empty:
        raise raised.pop()

    async with rpc.serve(server, {endpoint: handler}):
        while raised:
            with pytest.raises(Internal, match="error id"):
                await rpc.call(client, endpoint, Empty(), timeout=20)


async def test_a_handler_that_is_cancelled_is_not_answered_for() -> None:
    begun = asyncio.Event()

    async def responder(_: Message) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    task = asyncio.create_task(reply_of(responder, Message("a.b.c", b"")))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("stop", [stop for stop in STOPS if stop not in {asyncio.CancelledError, GeneratorExit}])
def test_what_ends_the_process_passes(stop: type[BaseException]) -> None:
    async def responder(_: Message) -> bytes:
        raise stop

    coroutine = reply_of(responder, Message("a.b.c", b""))
    with pytest.raises(stop):
        coroutine.send(None)


class PanickingDecoder(ScriptedDecoder):
    """Its runs panic until it is told otherwise."""

    panics = True

    def _logits(self, slot: int, length: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        if self.panics:
            raise Panic("in the runtime")
        return super()._logits(slot, length)


async def test_a_panic_in_the_engine_ends_the_answer_and_not_the_engine() -> None:
    tokenizer = Tokenizer(byte_level())
    decoder = PanickingDecoder(slots=2, max_len=64, vocab_size=tokenizer.vocab_size)
    async with AsyncExitStack() as stack:
        replica = await memory_replica(stack, tokenizer, decoder=decoder)
        assert (await replica.frames_of(request("a", prompt="hello")))[-1].error is not None
        decoder.panics = False
        assert (await replica.frames_of(request("b", prompt="hello")))[-1].finish_reason == "length"


def test_a_reply_of_a_panic_says_where_to_look() -> None:
    async def responder(_: Message) -> bytes:
        raise Panic("secret detail")

    reply = asyncio.run(reply_of(responder, Message("a.b.c", b"")))
    assert "secret" not in json.dumps(reply.data.decode())
    with pytest.raises(Internal, match=r"a\.b\.c failed unexpectedly"):
        unwrap(reply.data, reply.headers)
