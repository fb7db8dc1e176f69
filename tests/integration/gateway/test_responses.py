"""`/v1/responses` through a real gateway: what is generated, and how it is streamed."""

from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from shared.contracts.gateway import FinishReason, GeneratedToolCall
from shared.contracts.sampling import Sampling
from shared.errors import ContextLengthExceeded, Internal, InvalidInput, Overloaded
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand
from tests.support.fakes.scripted_replica import ScriptedReplica
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.fakes.spoken_frames import spoken
from tests.support.harness.responses import read_events, rebuilt, types_of
from tests.support.harness.wait import eventually

WHOLE = expected_text("tell me words", 7, 6)
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = GeneratedToolCall(index=0, id="call_1", name="weather", arguments='{"city": "Paris"}')


async def respond(stand: Stand, **body: object) -> httpx.Response:
    return await stand.client.post(
        "/v1/responses", json={"model": MODEL, "input": "tell me words", "seed": 7, **body}
    )


@pytest.fixture
async def replica(stand: Stand) -> ScriptedReplica:
    await stand.deploy()
    return await stand.replica()


async def test_a_text_is_answered_with_a_message_and_usage(stand: Stand, replica: ScriptedReplica) -> None:
    replica.said = spoken("Hello", " there")
    replica.sampling = Sampling(temperature=0.6, top_p=0.95, presence_penalty=0.0, frequency_penalty=0.25)
    answer = await respond(stand, metadata={"a": "b"}, max_output_tokens=50, user="u1")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["object"], body["status"], body["model"], body["store"]) == ("response", "completed", MODEL, True)
    [message] = body["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert message["content"] == [{"type": "output_text", "text": "Hello there", "annotations": [], "logprobs": []}]
    assert body["usage"] == {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 39,
    }
    assert (body["metadata"], body["max_output_tokens"], body["user"]) == ({"a": "b"}, 50, "u1")
    assert (body["temperature"], body["top_p"], body["frequency_penalty"]) == (0.6, 0.95, 0.25)
    assert body["completed_at"] >= body["created_at"]
    assert replica.received[-1].sampling.max_tokens == 50
    assert replica.received[-1].request_id == body["id"]


async def test_a_response_has_the_text_of_a_chat(stand: Stand, replica: ScriptedReplica) -> None:
    chat = (await stand.chat()).json()["choices"][0]["message"]["content"]
    body = (await respond(stand)).json()
    assert body["output"][0]["content"][0]["text"] == chat == WHOLE


async def test_an_answer_that_was_cut_is_incomplete(stand: Stand, replica: ScriptedReplica) -> None:
    body = (await respond(stand, max_output_tokens=4)).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (body["output"][0]["status"], body["completed_at"]) == ("incomplete", None)
    events = read_events((await respond(stand, max_output_tokens=4, stream=True)).text)
    assert events[-1]["type"] == "response.incomplete"


async def test_a_stream_has_every_event_with_its_number_and_ends_with_done(
    stand: Stand, replica: ScriptedReplica
) -> None:
    replica.said = spoken("Hello", " there")
    answer = await respond(stand, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    events = read_events(answer.text)
    assert events[0]["sequence_number"] == 0
    assert types_of(events) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [each["delta"] for each in events if "delta" in each] == ["Hello", " there"]
    assert events[0]["response"]["output"] == []
    assert events[0]["response"]["status"] == "in_progress"
    assert events[2]["item"]["content"] == []
    assert rebuilt(events) == events[-1]["response"]["output"]


async def test_a_call_is_an_item_of_its_own(stand: Stand, replica: ScriptedReplica) -> None:
    second = CALL.model_copy(update={"index": 1, "id": "call_2"})
    replica.said = spoken("I look.", calls=(CALL, second), reason=FinishReason.TOOL_CALLS)
    events = read_events((await respond(stand, stream=True, tools=[WEATHER])).text)
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    call = {name: output[1][name] for name in ("call_id", "name", "arguments", "status")}
    assert call == {"call_id": "call_1", "name": "weather", "arguments": CALL.arguments, "status": "completed"}
    assert rebuilt(events) == output
    assert types_of(events)[8:12] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    assert [tool.name for tool in replica.received[-1].tools] == ["weather"]
    body = (await respond(stand, tools=[WEATHER])).json()
    assert [item["type"] for item in body["output"]] == ["message", "function_call", "function_call"]
    assert body["tools"] == [{**WEATHER, "strict": None}]


async def test_thoughts_are_an_item_before_the_message(stand: Stand, replica: ScriptedReplica) -> None:
    replica.said = spoken("<th", "ink>\nA city", " in France", ".\n</thi", "nk>\n\nPa", "ris")
    replica.thinking = "may"
    events = read_events((await respond(stand, stream=True, reasoning={"effort": "low"})).text)
    response = events[-1]["response"]
    thoughts, message = response["output"]
    assert thoughts["type"] == "reasoning"
    assert thoughts["content"] == [{"type": "reasoning_text", "text": "A city in France."}]
    assert (thoughts["summary"], thoughts["status"]) == ([], "completed")
    assert message["content"][0]["text"] == "Paris"
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 3
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert rebuilt(events) == response["output"]
    assert [type_ for type_ in types_of(events) if "reasoning" in type_] == [
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
    ]
    assert '"reasoning_effort":"low"' in replica.received[-1].template.variables.replace(" ", "")


async def test_an_answer_that_ends_in_its_thoughts_has_no_message(stand: Stand, replica: ScriptedReplica) -> None:
    replica.said, replica.thinking = spoken("Let me", " see"), "open"
    [thoughts] = (await respond(stand)).json()["output"]
    assert (thoughts["type"], thoughts["content"][0]["text"]) == ("reasoning", "Let me see")


async def test_an_empty_answer_is_an_empty_message(stand: Stand, replica: ScriptedReplica) -> None:
    replica.said = spoken()
    [message] = (await respond(stand)).json()["output"]
    assert (message["type"], message["content"][0]["text"]) == ("message", "")


async def test_tags_of_thoughts_are_text_where_the_template_has_none(stand: Stand, replica: ScriptedReplica) -> None:
    replica.said = spoken("<think>", "x</think>")
    [message] = (await respond(stand)).json()["output"]
    assert message["content"][0]["text"] == "<think>x</think>"


async def test_log_probabilities_come_with_the_text(stand: Stand, replica: ScriptedReplica) -> None:
    include = ["message.output_text.logprobs"]
    part = (await respond(stand, include=include)).json()["output"][0]["content"][0]
    assert "".join(entry["token"] for entry in part["logprobs"]) == part["text"] == WHOLE
    assert replica.received[-1].sampling.logprobs == 0
    events = read_events((await respond(stand, include=include, top_logprobs=2, stream=True)).text)
    assert replica.received[-1].sampling.logprobs == 2
    streamed = [entry for event in events for entry in event.get("logprobs", ()) if event["type"].endswith("delta")]
    assert streamed == events[-1]["response"]["output"][0]["content"][0]["logprobs"] == part["logprobs"]
    assert (await respond(stand)).json()["output"][0]["content"][0]["logprobs"] == []


async def test_items_become_the_messages_of_the_conversation(stand: Stand, replica: ScriptedReplica) -> None:
    items: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be short."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "a tool"}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}", "status": None},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
        {"role": "user", "content": "And now?"},
    ]
    answer = await respond(stand, input=items, instructions="You know the weather.", tools=[WEATHER])
    assert answer.status_code == 200, answer.text
    messages = replica.received[-1].messages or ()
    assert [(each.role, each.content) for each in messages] == [
        ("system", "You know the weather."),
        ("developer", "Be short."),
        ("user", "Weather?"),
        ("assistant", "I look."),
        ("tool", "sun"),
        ("tool", "rain"),
        ("user", "And now?"),
    ]
    assert messages[3].reasoning == "a tool"
    assert [call.id for call in messages[3].tool_calls] == ["c1", "c2"]
    assert [each.tool_call_id for each in messages[4:6]] == ["c1", "c2"]


async def test_tools_choices_and_formats_reach_the_replica(stand: Stand, replica: ScriptedReplica) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    text = {"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": True}, "verbosity": "low"}
    body = (await respond(stand, text=text, temperature=0.5, top_k=3)).json()
    grammar = replica.received[-1].grammar
    assert grammar is not None
    assert (grammar.kind, grammar.strict, grammar.param) == ("json_schema", True, "text.format.schema")
    assert body["text"] == {**text, "format": {**text["format"], "description": None}}  # type: ignore[dict-item]
    assert replica.received[-1].sampling.top_k == 3
    choices: list[tuple[Any, str, Any]] = [
        ("required", "required", None),
        ({"type": "function", "name": "weather"}, "required", "weather"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}, "auto", None),
    ]
    for given, mode, name in choices:
        body = (await respond(stand, tools=[WEATHER], tool_choice=given, parallel_tool_calls=False)).json()
        choice = replica.received[-1].tool_choice
        assert (choice.mode, choice.name, choice.parallel) == (mode, name, False)
        assert body["tool_choice"] == given
        assert body["parallel_tool_calls"] is False


async def test_a_stream_that_fails_ends_with_an_error_and_the_failed_response(
    stand: Stand, replica: ScriptedReplica
) -> None:
    replica.fail_at = (3, Internal("the engine broke; id 1234"))
    answer = await respond(stand, stream=True)
    assert "[DONE]" not in answer.text
    events = read_events(answer.text)
    assert types_of(events)[-2:] == ["error", "response.failed"]
    assert events[-2]["message"] == events[-2]["error"]["message"] == "the engine broke; id 1234"
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert failed["output"][0]["status"] == "incomplete"
    assert (await stand.client.get(f"/v1/responses/{failed['id']}")).status_code == 404  # nothing is half stored


async def test_errors_before_the_stream_are_http_errors_with_the_field_of_a_response(
    stand: Stand, replica: ScriptedReplica
) -> None:
    for error, status, param in (
        (ContextLengthExceeded("too long", param="messages"), 400, "input"),
        (ContextLengthExceeded("too long", param="max_tokens"), 400, "max_output_tokens"),
        (InvalidInput("no", param="tools.0.function.parameters"), 400, "tools.0.parameters"),
        (Overloaded("full", retry_after=2), 429, None),
    ):
        replica.rejection = error
        for stream in (False, True):
            answer = await respond(stand, stream=stream)
            assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert (await respond(stand, model="nope")).status_code == 404


async def test_a_client_that_leaves_frees_the_slot_and_nothing_is_stored(
    stand: Stand, replica: ScriptedReplica
) -> None:
    replica.token_delay = 0.02
    body = {"model": MODEL, "input": "tell me words", "stream": True, "max_output_tokens": 5000}
    async with stand.client.stream("POST", "/v1/responses", json=body) as streamed:
        first = await anext(streamed.aiter_lines())
        assert first == "event: response.created"
    await eventually(lambda: replica.running == 0)
    response_id = replica.received[-1].request_id
    assert (await stand.client.get(f"/v1/responses/{response_id}")).status_code == 404


async def test_the_openai_client_creates_streams_and_parses(stand: Stand, replica: ScriptedReplica) -> None:
    class Place(BaseModel):
        city: str

    replica.said = spoken('{"city": ', '"Paris"}')
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        response = await client.responses.create(model=MODEL, input="Where?", instructions="Be short.")
        assert response.output_text == '{"city": "Paris"}'
        assert response.usage is not None
        assert response.usage.total_tokens == response.usage.input_tokens + 9
        parsed = await client.responses.parse(model=MODEL, input="Where?", text_format=Place)
        assert parsed.output_parsed == Place(city="Paris")
        async with client.responses.stream(model=MODEL, input="Where?", text_format=Place) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert kinds[-1] == "response.completed"
        assert final.output_parsed == Place(city="Paris")
        replica.said = spoken(calls=(CALL,), reason=FinishReason.TOOL_CALLS)
        async with client.responses.stream(model=MODEL, input="Weather?", tools=[WEATHER]) as stream:  # type: ignore[list-item]
            final = await stream.get_final_response()
        assert final.output[0].type == "function_call"
        replica.said = ()
        replica.fail_at = (2, Internal("broken in the middle"))
        with pytest.raises(openai.APIError, match="broken in the middle"):
            async for _ in await client.responses.create(model=MODEL, input="x", stream=True):
                pass
