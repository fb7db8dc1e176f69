"""Streams of `/v1/responses`, read and checked against the types of the `openai` package."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import orjson
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def read_events(text: str) -> list[dict[str, Any]]:
    """The events of a whole stream: each has the next number, and the name that its type has.

    Each is also what OpenAI's package knows as an event, with all the fields that it needs.
    """
    events = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        if lines["data"] == "[DONE]":
            continue
        event = orjson.loads(lines["data"])
        assert lines["event"] == event["type"]
        _EVENT.validate_python(event)
        events.append(event)
    first = events[0]["sequence_number"]
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    return events


def types_of(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The types of events, with one for deltas of the same kind in a row."""
    types: list[str] = []
    for event in events:
        if not (types and types[-1] == event["type"] and event["type"].endswith(".delta")):
            types.append(event["type"])
    return types


def rebuilt(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The output that a client puts together from the events alone: it must be that of the last event."""
    output: list[dict[str, Any]] = []
    for event in deepcopy(events):
        match event["type"]:
            case "response.output_item.added":
                assert event["output_index"] == len(output)
                output.append(event["item"])
            case "response.content_part.added":
                output[event["output_index"]]["content"].append(event["part"])
            case "response.output_text.delta":
                part = output[event["output_index"]]["content"][event["content_index"]]
                part["text"] += event["delta"]
                part["logprobs"] += event["logprobs"]
            case "response.reasoning_text.delta":
                output[event["output_index"]]["content"][event["content_index"]]["text"] += event["delta"]
            case "response.function_call_arguments.delta":
                output[event["output_index"]]["arguments"] += event["delta"]
            case "response.output_item.done":
                output[event["output_index"]]["status"] = event["item"]["status"]
                assert _without_scores(output[event["output_index"]]) == _without_scores(event["item"])
                output[event["output_index"]] = event["item"]
    return output


def _without_scores(item: Mapping[str, Any]) -> dict[str, Any]:
    """Log probabilities of tokens without text come with the end of an item alone."""
    content = [{**part, "logprobs": None} for part in item.get("content", ())]
    return {**item, "content": content}
