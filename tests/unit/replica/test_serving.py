"""Requests on a real engine with a sample decoder and a bus in memory."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from services.inference.engine.limits import EngineLimits
from shared.contracts.gateway import FinishReason, FrameBatch, frames_subject
from shared.contracts.monitor import Heartbeat
from shared.contracts.replica import ChatMessage, Grammar, Tool, ToolChoice
from shared.errors import (
    Conflict,
    ContextLengthExceeded,
    DeadlineExceeded,
    Draining,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
)
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import memory_replica, request, small_spec
from tests.support.harness.wait import eventually
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
SPEC = small_spec(TOKENIZER)


@pytest.fixture
async def start():
    async with AsyncExitStack() as stack:
        yield lambda **options: memory_replica(stack, TOKENIZER, **options)


LONG = {"max_tokens": 50}


async def test_an_answer_comes_in_frames_with_usage_and_timings(start):
    replica = await start()
    accepted = await replica.generate(request())
    last = await replica.last("r")
    assert accepted.prompt_tokens == last.usage.prompt_tokens == len(TOKENIZER.encode("hello"))
    assert (last.finish_reason, last.usage.completion_tokens) == (FinishReason.LENGTH, 8)
    assert sum(len(frame.token_ids) for frame in replica.frames["r"]) == 8
    assert last.timings.prefill_s >= 0
    (finished,) = replica.finished
    assert finished.stream.steps == 8


async def test_without_max_tokens_the_slot_is_filled(start):
    replica = await start()
    accepted = await replica.generate(request(sampling={"max_tokens": None}))
    assert (await replica.last("r")).usage.completion_tokens == 64 - accepted.prompt_tokens


async def test_a_resumed_answer_equals_the_uninterrupted_one(start):
    replica = await start()
    sampling = {"max_tokens": 20, "temperature": 1.0, "seed": 7}
    await replica.generate(request("whole", sampling=sampling))
    await replica.last("whole")
    whole = replica.frames["whole"]
    for cut in range(len(whole)):
        token_ids = tuple(token for frame in whole[:cut] for token in frame.token_ids)
        await replica.generate(request(f"cut-{cut}", sampling=sampling, resume_token_ids=token_ids))
        last = await replica.last(f"cut-{cut}")
        rest = replica.frames[f"cut-{cut}"]
        assert "".join(f.text for f in (*whole[:cut], *rest)) == "".join(f.text for f in whole)
        assert last.usage == whole[-1].usage


async def test_a_resumed_answer_that_is_complete_ends_without_computing(start):
    replica = await start()
    cases = {
        "length": ({"max_tokens": 3}, (10, 11, 12)),
        "eos": ({"ignore_eos": False}, (10, 2)),
        "stop": ({"stop": ("END",)}, tuple(TOKENIZER.encode("the END"))),
    }
    for name, (sampling, token_ids) in cases.items():
        await replica.generate(request(name, sampling=sampling, resume_token_ids=token_ids))
        last = await replica.last(name)
        assert last.finish_reason is (FinishReason.LENGTH if name == "length" else FinishReason.STOP)
        assert last.usage.completion_tokens == len(token_ids)
        assert (last.token_ids, last.text) == ((), "")
    assert replica.engine.load().counters.steps == 0


async def test_cancel_ends_a_request_with_one_terminal_frame_and_frees_its_slot(start):
    replica = await start(token_s=0.01)
    await replica.generate(request(sampling=LONG))
    await eventually(lambda: replica.frames.get("r"))
    assert replica.serving.abort(["r"], FinishReason.CANCELLED) == 1
    assert replica.serving.abort(["r", "unknown"], FinishReason.CANCELLED) == 0
    last = await replica.last("r")
    assert last.finish_reason is FinishReason.CANCELLED
    assert last.usage.completion_tokens < 50
    await eventually(lambda: replica.engine.load().free_slots == 2)


async def test_a_stop_string_ends_the_answer_before_it(start):
    replica = await start(token_s=0.005)
    await replica.generate(request("whole", sampling={"max_tokens": 30}))
    await replica.last("whole")
    whole = "".join(frame.text for frame in replica.frames["whole"])
    stop = whole[6:9]
    await replica.generate(request("cut", sampling={"max_tokens": 30, "stop": (stop,)}))
    last = await replica.last("cut")
    assert last.finish_reason is FinishReason.STOP
    assert "".join(frame.text for frame in replica.frames["cut"]) == whole[: whole.index(stop)]
    assert last.usage.completion_tokens == sum(len(frame.token_ids) for frame in replica.frames["cut"]) < 30


async def test_a_request_whose_deadline_passes_gets_a_typed_error(start):
    replica = await start(token_s=0.02)
    await replica.generate(request(sampling=LONG, time_left_s=0.3))
    last = await replica.last("r")
    assert (last.finish_reason, last.error.code) == (FinishReason.ERROR, "deadline_exceeded")
    assert 0 < last.usage.completion_tokens < 50


async def test_a_request_that_comes_after_its_deadline_is_refused(start):
    replica = await start()
    with pytest.raises(DeadlineExceeded):
        await replica.generate(request(time_left_s=0.0))


async def test_requests_of_a_gateway_that_left_are_cancelled(start):
    replica = await start(token_s=0.02)
    await replica.generate(request(sampling=LONG))
    heartbeat = Heartbeat(
        service="gateway", instance="g", pid=1, ready=True, started_at=datetime.now(UTC), version="0", leaving=True
    )
    replica.serving.gateway_heartbeat(heartbeat)
    assert (await replica.last("r")).finish_reason is FinishReason.CANCELLED


async def test_refusals_are_typed_and_leave_nothing_open(start):
    replica = await start()
    for error, fields in [
        (ContextLengthExceeded, {"sampling": {"max_tokens": 1000}}),
        (ContextLengthExceeded, {"prompt": "x " * 200, "sampling": {"max_tokens": None}}),
        (InvalidInput, {"prompt": ""}),
        (InvalidInput, {"prompt_token_ids": (10**6,)}),
        (InvalidInput, {"messages": (ChatMessage(role="user", content="no template"),)}),
        (ContextLengthExceeded, {"prompt": "x" * (4 << 20)}),
        (ContextLengthExceeded, {"prompt": "x" * (5 << 20)}),
    ]:
        with pytest.raises(error):
            await replica.generate(request(**fields))
    large = await start(max_len=8 << 20)
    with pytest.raises(PayloadTooLarge):
        await large.generate(request(prompt="x" * (5 << 20)))
    await replica.serving.drain(1.0)  # nothing is open


async def test_a_full_queue_is_refused_at_once(start):
    replica = await start(token_s=0.01, slots=1, limits=EngineLimits(max_waiting=1))
    await replica.generate(request("a", sampling=LONG))
    await eventually(lambda: replica.engine.load().running == 1)
    with pytest.raises(Conflict):
        await replica.generate(request("a", sampling=LONG))
    await replica.generate(request("b", sampling=LONG))
    with pytest.raises(Overloaded) as caught:
        await replica.generate(request("c", sampling=LONG))
    assert caught.value.retry_after
    assert replica.serving.abort(["a", "b"], FinishReason.CANCELLED) == 2


async def test_drain_lets_answers_finish_and_refuses_new_ones(start):
    replica = await start(token_s=0.005)
    await replica.generate(request())
    drained = asyncio.create_task(replica.serving.drain(10.0))
    await eventually(lambda: replica.serving.draining)
    with pytest.raises(Draining):
        await replica.generate(request("late"))
    await drained
    assert (await replica.last("r")).finish_reason is FinishReason.LENGTH


async def test_drain_hands_back_what_does_not_finish_in_time(start):
    replica = await start(token_s=0.05, slots=1)
    await replica.generate(request("running", sampling=LONG))
    await replica.generate(request("waiting", sampling=LONG))
    await eventually(lambda: replica.frames.get("running"))
    await replica.serving.drain(0.1)
    for request_id in ("running", "waiting"):
        last = await replica.last(request_id)
        assert (last.finish_reason, last.error.code, last.error.retryable) == ("error", "draining", True)


async def test_messages_are_rendered_and_plain_prompts_get_a_bos_token_if_the_model_wants_one(start):
    template = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
    replica = await start(template=template, spec=SPEC.model_copy(update={"add_bos_token": True}))
    messages = (ChatMessage(role="developer", content="be kind"), ChatMessage(role="user", content="hi"))
    accepted = await replica.generate(request("chat", messages=messages))
    assert accepted.prompt_tokens == len(TOKENIZER.encode("system:be kind;user:hi;"))
    accepted = await replica.generate(request("plain", prompt="hi"))
    assert accepted.prompt_tokens == len(TOKENIZER.encode("hi")) + 1
    with pytest.raises(InvalidInput, match="at least one"):
        await replica.generate(request("empty", messages=()))


async def test_one_message_a_step_carries_all_requests_of_a_gateway(start):
    replica = await start(token_s=0.002, slots=4, limits=EngineLimits())
    counted = []

    def count(message):
        counted.append(len(FrameBatch.decode(message.data).frames))

    await replica.bus.subscribe(frames_subject("g"), count)
    for each in "abcd":
        await replica.generate(request(each, sampling={"max_tokens": 40}))
    for each in "abcd":
        await replica.last(each)
    assert max(counted) == 4
    assert sum(counted) == sum(len(frames) for frames in replica.frames.values())
    assert max(finished.stream.batch_max for finished in replica.finished) == 4


WEATHER = Tool(
    name="w",
    parameters='{"type": "object", "properties": {"c": {"enum": ["x", "y"]}}, "required": ["c"],'
    ' "additionalProperties": false}',
)


async def test_a_resumed_tool_call_goes_on_where_its_frames_ended(start):
    replica = await start(template="{{ messages[-1].content }}", max_len=512)
    fields = {
        "messages": (ChatMessage(role="user", content="hi"),),
        "tools": (WEATHER,),
        "tool_choice": ToolChoice(mode="required", parallel=False),
        "sampling": {"ignore_eos": False, "temperature": 1.0, "seed": 3, "max_tokens": 200},
    }
    await replica.generate(request("whole", **fields))
    last = await replica.last("whole")
    frames = replica.frames["whole"]
    (arguments,) = [call.arguments for frame in frames for call in frame.tool_calls]
    assert json.loads(arguments)["c"] in {"x", "y"}
    assert last.finish_reason is FinishReason.TOOL_CALLS
    for cut in range(0, len(frames), 5):
        done = frames[:cut]
        tokens = tuple(token for frame in done for token in frame.token_ids)
        await replica.generate(request(f"r{cut}", **fields, resume_token_ids=tokens))
        assert (await replica.last(f"r{cut}")).finish_reason is FinishReason.TOOL_CALLS
        rest = [*done, *replica.frames[f"r{cut}"]]
        calls = [call for frame in rest for call in frame.tool_calls]
        assert [(call.index, call.name, call.arguments) for call in calls] == [(0, "w", arguments)]


async def test_ignore_eos_does_not_go_with_a_grammar(start):
    replica = await start()
    with pytest.raises(InvalidInput) as error:
        await replica.generate(request(grammar=Grammar(kind="regex", value="a+")))
    assert error.value.param == "ignore_eos"


CALLING = {
    "messages": (ChatMessage(role="user", content="hi"),),
    "tools": (WEATHER, Tool(name="now")),
    "tool_choice": ToolChoice(mode="required", parallel=False),
}
SAMPLED = {"ignore_eos": False, "temperature": 1.0, "max_tokens": 200}


async def test_a_call_that_max_tokens_cuts_is_not_there(start):
    replica = await start(template="{{ messages[-1].content }}", max_len=512)
    await replica.generate(request("whole", **CALLING, sampling={**SAMPLED, "seed": 3}))
    whole = (await replica.last("whole")).usage.completion_tokens
    for cut in range(1, whole, 3):
        name = f"cut{cut}"
        await replica.generate(request(name, **CALLING, sampling={**SAMPLED, "seed": 3, "max_tokens": cut}))
        last = await replica.last(name)
        assert (last.finish_reason, last.usage.completion_tokens) == (FinishReason.LENGTH, cut)
        assert "".join(frame.text for frame in replica.frames[name]) == ""
        for call in (call for frame in replica.frames[name] for call in frame.tool_calls):
            assert cut > whole - len("\n</tool_call>") - 1
            json.loads(call.arguments)


async def test_what_ends_text_ends_no_call(start):
    replica = await start(template="{{ messages[-1].content }}", max_len=512)
    tokens = [token for char in '\n{"wx:' for token in TOKENIZER.encode(char)]
    for name, ending in (
        ("free", {}),
        ("stop", {"stop": ("\n", "{", "w", "x")}),
        ("ids", {"stop_token_ids": tokens}),
    ):
        await replica.generate(request(name, **CALLING, sampling={**SAMPLED, "seed": 3, **ending}))
        assert (await replica.last(name)).finish_reason is FinishReason.TOOL_CALLS
        calls = [(call.name, call.arguments) for frame in replica.frames[name] for call in frame.tool_calls]
        assert len(calls) == 1
        assert calls == [(call.name, call.arguments) for frame in replica.frames["free"] for call in frame.tool_calls]


@pytest.mark.parametrize(
    ("choice", "calls", "text"),
    [
        ({}, True, True),
        ({"mode": "required"}, True, False),
        ({"mode": "required", "name": "now"}, True, False),
        ({"mode": "auto", "allowed": ("now",)}, True, True),
        ({"mode": "none"}, False, True),
    ],
)
@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[-1].content }}",
        "{% if tools %}[TOOL_CALLS]{% endif %}{{ messages[-1].content }}",
        '{% if tools %}"parameters": <|eot_id|>{% endif %}{{ messages[-1].content }}',
    ],
    ids=["hermes", "mistral", "llama"],
)
async def test_a_grammar_for_the_text_beside_tools_leaves_calls_or_that_text(start, template, choice, calls, text):
    replica = await start(template=template, max_len=512)
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
    fields = CALLING | {"tool_choice": ToolChoice(**choice, parallel=False)}
    kinds = set()
    for seed in range(12):
        name = f"r{seed}"
        grammar = Grammar(kind="json_schema", value=json.dumps(schema), strict=False)
        await replica.generate(request(name, **fields, grammar=grammar, sampling={**SAMPLED, "seed": seed}))
        last = await replica.last(name)
        called = [call for frame in replica.frames[name] for call in frame.tool_calls]
        content = "".join(frame.text for frame in replica.frames[name])
        assert bool(called) != bool(content)
        assert last.finish_reason is (FinishReason.TOOL_CALLS if called else FinishReason.STOP)
        kinds.add("calls" if called else "text")
        for call in called:
            assert json.loads(call.arguments) == {} if call.name == "now" else json.loads(call.arguments)["c"]
        if content:
            assert json.loads(content)["colour"] in {"red", "blue"}
    assert kinds <= {name for name, possible in (("calls", calls), ("text", text)) if possible}


async def test_tools_go_with_no_grammar_but_json(start):
    replica = await start(template="{{ messages[-1].content }}")
    fields = {"messages": (ChatMessage(role="user", content="hi"),), "tools": (WEATHER,)}
    with pytest.raises(InvalidInput) as error:
        await replica.generate(request(**fields, grammar=Grammar(kind="regex", value="a+", param="guided_regex")))
    assert error.value.param == "guided_regex"
