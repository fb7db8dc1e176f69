"""An assistant's message as the text that the model has to write."""

import json

from shared.contracts.replica import ChatMessage
from shared.text.tool_form import ToolForm


def answer_text(message: ChatMessage, form: ToolForm) -> str:
    """The content, and the calls in the form that the model's template defines; the engine parses them back."""
    if not message.tool_calls:
        return message.content
    calls = [
        json.dumps({"name": call.name, form.arguments: json.loads(call.arguments)}, ensure_ascii=False)
        for call in message.tool_calls
    ]
    if not form.opening:
        return form.between.join(calls)
    if form.closing:
        parts = [f"{form.opening}{form.before}{call}{form.after}{form.closing}" for call in calls]
        return "\n".join([message.content, *parts] if message.content else parts)
    listed = form.between.join(calls)
    return f"{message.content}{form.opening}{form.before}{listed}{form.after}"
