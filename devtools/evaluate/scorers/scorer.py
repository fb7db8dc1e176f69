"""What a scorer is: how an item is put to a model, and what its answer is worth."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from devtools.data.rows import Item
from devtools.evaluate.gateway import Gateway, Reply
from devtools.evaluate.metric import Metric
from devtools.evaluate.subject import Subject
from shared.contracts.report import ItemScore
from shared.errors import InvalidInput

MAX_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Model:
    """The model that answers, and the deployment that judges, if there is one."""

    gateway: Gateway
    subject: Subject
    judge: str | None = None

    async def answer(self, item: Item) -> Reply:
        """Its answer to the item's messages, or its continuation of the item's prompt."""
        parameters: dict[str, object] = {"max_tokens": int_label(item, "max_tokens", MAX_TOKENS)}
        if stop := item.labels.get("stop"):
            parameters["stop"] = [stop]
        if item.tools:
            parameters["tools"] = [
                {"type": "function", "function": tool.model_dump(mode="json", exclude_none=True)}
                for tool in item.tools
            ]
        return await self.gateway.answer(self.subject.deployment, item.messages or item.prompt, parameters)


@dataclass(frozen=True, slots=True)
class Scorer:
    """A way to score items.

    metrics: what it gives; the first is the one that gates look at
    score: asks the model
    needs: what an item lacks, as "choices and an answer"; "" if it has all
    alone: whether items are put one after the other, since time is measured
    fault: what its figures cannot show; stands beside them
    """

    name: str
    metrics: tuple[Metric, ...]
    score: Callable[[Item, Model], Awaitable[ItemScore]]
    needs: Callable[[Item], str]
    alone: bool = False
    fault: str = ""


def needs_question(item: Item) -> str:
    """Messages or a prompt, and references."""
    if not item.messages and not item.prompt:
        return "messages or a prompt"
    return "" if item.references else "references"


def needs_choices(item: Item) -> str:
    """Two choices, and which is right."""
    if len(item.choices) < 2:
        return "two choices or more"
    return "" if item.answer is not None else "an answer: the index of the right choice"


def int_label(item: Item, name: str, default: int) -> int:
    """A label that is a number; raises InvalidInput where it is not."""
    text = item.labels.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise InvalidInput(f"labels.{name} is {text!r}; expected a number from 1 up", param=f"labels.{name}")
    return int(text)
