"""Conversations for templates that take one call in a message: Llama 3's."""

from collections.abc import Iterator, Sequence

from shared.contracts.replica import ChatMessage


def one_call_each(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The conversation with each message of several calls as several messages, each followed by its call's result.

    Results that answer none of the calls stay behind the last.
    """
    return list(_split(messages))


def _split(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        if len(message.tool_calls) < 2:
            yield message
            continue
        begin = place
        while place < len(messages) and messages[place].role == "tool":
            place += 1
        yield from _turns(message, list(messages[begin:place]))


def _turns(message: ChatMessage, results: list[ChatMessage]) -> Iterator[ChatMessage]:
    for index, call in enumerate(message.tool_calls):
        update: dict[str, object] = {"tool_calls": (call,)}
        if index:  # what was said before the calls stands before the first
            update |= {"content": "", "reasoning": None}
        yield message.model_copy(update=update)
        mine = [result for result in results if result.tool_call_id == call.id]
        if any(later.id == call.id for later in message.tool_calls[index + 1 :]):
            del mine[1:]  # some servers give all calls one id
        yield from mine
        results = [result for result in results if not any(result is each for each in mine)]
    yield from results
