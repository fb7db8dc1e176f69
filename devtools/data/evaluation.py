"""Evaluation items as people have them."""

from collections.abc import Mapping
from typing import Any

from devtools.data.chat import read_messages, read_tools, text
from devtools.data.defects import Broken
from devtools.data.rows import Item

_PROMPTS = ("prompt", "question", "input")
_REFERENCES = ("references", "answers", "reference", "completion", "output")
EVALUATION_KEYS = frozenset(
    {"messages", "tools", "choices", "answer", "label", "scorer", "labels", "category", *_PROMPTS, *_REFERENCES}
)


def read_item(value: Mapping[str, Any]) -> Item:
    """An item of a suite.

    The prompt is `prompt`, `question`, `input` or `messages`. What is right is `answer`: the index of a choice, its
    letter or its text; or `references`, `answers`, `reference`, `completion`, `output`, or a text in `answer`.

    Raises:
        Broken: A field is missing or wrong.
    """
    messages: tuple[Any, ...] = ()
    prompt = ""
    if "messages" in value:
        messages = tuple(message for message, _ in read_messages(value["messages"]))
    elif (field := next((key for key in _PROMPTS if key in value), None)) is not None:
        if isinstance(value[field], list):
            messages = tuple(message for message, _ in read_messages(value[field], field))
        else:
            prompt = text(value[field], field)
    choices = _texts(value["choices"], "choices") if value.get("choices") else ()
    references: tuple[str, ...] = ()
    if (field := next((key for key in _REFERENCES if value.get(key) not in (None, [])), None)) is not None:
        references = _texts(value[field], field)
    answer = value.get("answer", value.get("label"))
    index = None
    if choices and answer is not None:
        index = _index(answer, choices)
    elif answer is not None and not references:
        references = (text(answer, "answer", empty=False),)
    labels = value.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise Broken("missing_field", "labels: expected an object of texts")
    if "category" in value:
        labels = {**labels, "category": value["category"]}
    if not prompt.strip() and not messages and not choices and not references:
        raise Broken("empty_prompt", "prompt: is empty")
    return Item(
        messages=messages,
        prompt=prompt,
        tools=read_tools(value.get("tools")),
        choices=choices,
        answer=index,
        references=references,
        scorer=text(value.get("scorer", ""), "scorer"),
        labels={str(key): str(item) for key, item in labels.items()},
    )


def _texts(value: Any, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not value:
        raise Broken("missing_field", f"{field}: expected a list of texts")
    return tuple(text(item, f"{field}[{index}]") for index, item in enumerate(value))


def _index(answer: Any, choices: tuple[str, ...]) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str):
        if answer in choices:
            return choices.index(answer)
        letter = answer.strip().upper()
        if len(letter) == 1 and 0 <= ord(letter) - ord("A") < len(choices):
            return ord(letter) - ord("A")
        if letter.isdecimal() and int(letter) < len(choices):
            return int(letter)
    raise Broken(
        "missing_field",
        f"answer: expected the index, the letter or the text of one of {len(choices)} choices, found {answer!r:.40}",
    )
