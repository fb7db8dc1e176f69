"""The response object: `ResponseResource` of the Open Responses specification, with OpenAI's fields."""

from collections.abc import Mapping
from typing import Any

from services.gateway.http import errors
from services.gateway.openai.responses.request.body import ResponseRequest
from services.gateway.openai.responses.request.tools import shown_choice
from shared.contracts.gateway import Usage
from shared.contracts.response import ResponseStatus
from shared.contracts.sampling import Sampling
from shared.errors import InvalidInput, LlmosError, Overloaded

Resource = dict[str, Any]


def new_resource(request: ResponseRequest, response_id: str, created: int, *, store: bool) -> Resource:
    """The response to a request before anything was generated.

    Args:
        request: Its parameters are repeated.
        response_id: Its id.
        created: Unix time in seconds.
        store: Whether it is stored.
    """
    reasoning = request.reasoning
    conversation = request.conversation
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "completed_at": None,
        "status": ResponseStatus.QUEUED if request.background else ResponseStatus.IN_PROGRESS,
        "background": bool(request.background),
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "model": request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "conversation": None if conversation is None else {"id": conversation.id},
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": reasoning and reasoning.effort, "summary": reasoning and reasoning.summary},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": store,
        "text": {"format": {"type": "text"}} if request.text is None else request.text.shown(),
        "tool_choice": shown_choice(request.tool_choice),
        "tools": [tool.shown() for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "truncation": "disabled",
        "usage": None,
        "user": request.user,
        "metadata": request.metadata or {},
        **_sampling(request),
    }


def _sampling(given: Sampling) -> dict[str, float]:
    return {
        "temperature": 1.0 if given.temperature is None else given.temperature,
        "top_p": 1.0 if given.top_p is None else given.top_p,
        "presence_penalty": given.presence_penalty or 0.0,
        "frequency_penalty": given.frequency_penalty or 0.0,
    }


def accept(resource: Resource, used: Sampling | None) -> None:
    """A replica has accepted the request, and uses this sampling."""
    if used is not None:
        resource.update(_sampling(used))


def usage_object(usage: Usage, reasoning_tokens: int) -> dict[str, Any]:
    """The tokens of a response."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def fail(resource: Resource, error: LlmosError) -> None:
    """The response has failed. The code is one of OpenAI's, whose clients know no others."""
    code = "server_error"
    if isinstance(error, Overloaded):
        code = "rate_limit_exceeded"
    elif isinstance(error, InvalidInput):
        code = "invalid_prompt"
    resource["error"] = {"code": code, "message": errors.text(error)}
    _abandon(resource, ResponseStatus.FAILED)


def cancel(resource: Resource) -> None:
    """The response was cancelled: what there is of its output stays."""
    _abandon(resource, ResponseStatus.CANCELLED)


def _abandon(resource: Resource, status: ResponseStatus) -> None:
    resource["status"] = status
    for item in resource["output"]:
        if item["status"] == "in_progress":
            item["status"] = "incomplete"


def deleted(kind: str, deleted_id: str) -> Mapping[str, Any]:
    """What is returned for an object that was deleted."""
    return {"id": deleted_id, "object": kind, "deleted": True}
