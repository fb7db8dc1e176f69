"""The forms in which people have rows: which one an object is of, and the rows that it gives.

| form | keys |
|---|---|
| `llmos` | `kind` and the rest of a canonical row |
| `openai-chat` | `messages`, with `tools`, and `weight` of the assistant's messages |
| `sharegpt` | `conversations` with `from` and `value` |
| `alpaca` | `instruction`, `output`, maybe `input` |
| `prompt-completion` | `prompt` and `completion`: texts, or lists of messages |
| `preference` | `chosen` and `rejected`, maybe `prompt`: texts, or lists of messages |
| `openai-preference` | `input`, `preferred_output`, `non_preferred_output` |
| `text` | `text` |
| `evaluation` | `prompt`, `question`, `input` or `messages`, with `choices` and `answer`, or with `references` |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from devtools.data.chat import SHAREGPT_ROLES, read_messages, read_tools, text, turns
from devtools.data.defects import Broken
from devtools.data.evaluation import EVALUATION_KEYS, read_item
from devtools.data.rows import Pair, Row, Text, Turn, parse_object
from devtools.data.words import nearest
from shared.contracts.replica import ChatMessage
from shared.errors import InvalidInput

Object = Mapping[str, Any]
COMMON = frozenset({"id", "group", "split"})
"""Keys that each form may have: the row's own id, and what it belongs to."""


def _llmos(value: Object) -> list[Row]:
    return [parse_object({key: item for key, item in value.items() if key not in {"id", "split"}})]


def _openai_chat(value: Object) -> list[Row]:
    return [*turns(read_messages(value["messages"]), read_tools(value.get("tools")), "messages")]


def _sharegpt(value: Object) -> list[Row]:
    conversation = value["conversations"]
    if not isinstance(conversation, list):
        raise Broken("missing_field", "conversations: expected a list of messages")
    messages = []
    for index, item in enumerate(conversation):
        place = f"conversations[{index}]"
        if not isinstance(item, dict):
            raise Broken("missing_field", f"{place}: expected an object with from and value")
        speaker = item.get("from", item.get("role"))
        role = SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            expected = ", ".join(SHAREGPT_ROLES)
            raise Broken("broken_roles", f"{place}.from: expected one of {expected}; found {speaker!r:.40}")
        content = item.get("value", item.get("content"))
        messages.append({"role": role, "content": content, "weight": item.get("weight", 1)})
    if isinstance(value.get("system"), str) and value["system"]:
        messages.insert(0, {"role": "system", "content": value["system"]})
    return [*turns(read_messages(messages, "conversations"), read_tools(value.get("tools")), "conversations")]


def _alpaca(value: Object) -> list[Row]:
    prompt = text(value["instruction"], "instruction", empty=False)
    if given := value.get("input"):
        prompt = f"{prompt}\n\n{text(given, 'input')}"
    system = value.get("system")
    messages = [ChatMessage(role="system", content=text(system, "system"))] if system else []
    messages.append(ChatMessage(role="user", content=prompt))
    return [_turn(messages, text(value["output"], "output", empty=False))]


def _prompt_completion(value: Object) -> list[Row]:
    answer = value["completion"]
    if isinstance(answer, list):
        return [
            *turns([*_prompt(value["prompt"]), *read_messages(answer, "completion")], _tools(value), "completion")
        ]
    return [_turn([message for message, _ in _prompt(value["prompt"])], text(answer, "completion", empty=False))]


def _preference(value: Object) -> list[Row]:
    chosen, rejected = value["chosen"], value["rejected"]
    prompt = [message for message, _ in _prompt(value["prompt"])] if "prompt" in value else []
    if isinstance(chosen, list) and isinstance(rejected, list):
        better = [message for message, _ in read_messages(chosen, "chosen")]
        worse = [message for message, _ in read_messages(rejected, "rejected")]
        if not prompt:
            prompt = better[:-1]
            if worse[:-1] != prompt:
                raise Broken("broken_roles", "chosen, rejected: the messages before the last ones differ")
        better, worse = better[-1:], worse[-1:]
    else:
        better = [ChatMessage(role="assistant", content=text(chosen, "chosen", empty=False))]
        worse = [ChatMessage(role="assistant", content=text(rejected, "rejected"))]
    return [_pair(prompt, _tools(value), better[0], worse[0])]


def _openai_preference(value: Object) -> list[Row]:
    given = value["input"]
    if not isinstance(given, dict):
        raise Broken("missing_field", "input: expected an object with messages")
    prompt = [message for message, _ in read_messages(given.get("messages"), "input.messages")]
    answers = [read_messages(value[key], key) for key in ("preferred_output", "non_preferred_output")]
    (better, _), (worse, _) = answers[0][-1], answers[1][-1]
    return [_pair(prompt, read_tools(given.get("tools"), "input.tools"), better, worse)]


def _text(value: Object) -> list[Row]:
    return [Text(text=text(value["text"], "text", empty=False))]


def _prompt(value: Any) -> list[tuple[ChatMessage, bool]]:
    if isinstance(value, list):
        return read_messages(value, "prompt")
    return [(ChatMessage(role="user", content=text(value, "prompt", empty=False)), False)]


def _tools(value: Object) -> Any:
    return read_tools(value.get("tools"))


def _turn(messages: list[ChatMessage], answer: str) -> Turn:
    return Turn(messages=tuple(messages), answer=ChatMessage(role="assistant", content=answer))


def _pair(prompt: list[ChatMessage], tools: Any, chosen: ChatMessage, rejected: ChatMessage) -> Pair:
    if not prompt:
        raise Broken("empty_prompt", "prompt: no message before the two answers")
    for field, message in (("chosen", chosen), ("rejected", rejected)):
        if message.role != "assistant":
            raise Broken("broken_roles", f"{field}: expected a message of the assistant, found {message.role}")
    if not chosen.content.strip() and not chosen.tool_calls:
        raise Broken("empty_answer", "chosen: the answer is empty")
    return Pair(messages=tuple(prompt), tools=tools, chosen=chosen, rejected=rejected)


@dataclass(frozen=True, slots=True)
class Form:
    """A form.

    needs: keys by which it is recognised
    takes: further keys that it reads
    """

    needs: frozenset[str]
    takes: frozenset[str]
    read: Callable[[Object], list[Row]]

    @property
    def keys(self) -> frozenset[str]:
        """All that it reads; others are ignored, and counted."""
        return self.needs | self.takes | COMMON


def _form(needs: str, takes: str, read: Callable[[Object], list[Row]]) -> Form:
    return Form(frozenset(needs.split()), frozenset(takes.split()), read)


_CANONICAL = "kind text messages tools answer chosen rejected prompt choices references scorer labels group"
FORMS = {
    "llmos": _form("kind", _CANONICAL, _llmos),
    "openai-chat": _form("messages", "tools parallel_tool_calls", _openai_chat),
    "sharegpt": _form("conversations", "system tools", _sharegpt),
    "alpaca": _form("instruction output", "input system", _alpaca),
    "openai-preference": _form("input preferred_output non_preferred_output", "", _openai_preference),
    "preference": _form("chosen rejected", "prompt tools", _preference),
    "prompt-completion": _form("prompt completion", "tools", _prompt_completion),
    "evaluation": Form(frozenset(), EVALUATION_KEYS, lambda value: [read_item(value)]),
    "text": _form("text", "", _text),
}
"""In the order in which they are tried; `evaluation` is recognised by `read_item`'s keys."""


def form_of(value: Object) -> str | None:
    """The name of the first form that an object is of."""
    keys = value.keys()
    for name, form in FORMS.items():
        if name == "evaluation":
            if keys & {"choices", "references", "answers"} and keys & {"prompt", "question", "input", "messages"}:
                return name
        elif form.needs <= keys:
            return name
    return None


def check_form(form: str | None) -> None:
    """Raise InvalidInput for the name of no form, with the nearest one."""
    if form is not None and form not in FORMS:
        raise InvalidInput(f"form {form!r}: there is none{nearest(form, FORMS)}", param="as")


def rows_of(value: Object, form: str) -> list[Row]:
    """The rows of an object.

    Raises:
        Broken: It is not of the form, or a field is wrong.
    """
    known = FORMS[form]
    if missing := known.needs - value.keys():
        other = form_of(value)
        found = f"it is of the form {other}" if other else f"it has {', '.join(sorted(value)) or 'no keys'}"
        kind = "other_form" if other else "missing_field"
        raise Broken(kind, f"{', '.join(sorted(missing))}: missing for the form {form}; {found}")
    try:
        return known.read(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Broken("missing_field", f"{place}: {first['msg']}" if place else first["msg"]) from None
