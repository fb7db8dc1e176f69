"""Parameters of OpenAI's and vLLM's requests that are not fields of our request models."""

from collections.abc import Sequence

from pydantic import BaseModel

from services.gateway.http.parameters import Parameters

REQUEST = Parameters(
    ignored={
        "user": "tenants are keys",
        "metadata": "nothing is stored",
        "store": "nothing is stored",
        "service_tier": "there is one tier",
        "parallel_tool_calls": "of requests without tools",
        "prompt_cache_key": "the prefix cache finds by content",
        "prompt_cache_retention": "the prefix cache keeps what fits",
        "safety_identifier": "tenants are keys",
    },
    refused={
        # OpenAI's
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
        "moderation": (),
        "suffix": ("",),
        # vLLM's
        "length_penalty": (1,),
        "use_beam_search": (False,),
        "skip_special_tokens": (True,),
        "spaces_between_special_tokens": (True,),
        "truncate_prompt_tokens": (),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
        "add_special_tokens": (),
        "documents": ([],),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "priority": (0,),
    },
)
"""Of a request, where its model has no such field."""
_MESSAGE = Parameters(
    ignored={
        "parsed": "what OpenAI's packages add to a message that they have parsed: they send it back",
        "annotations": "of web searches",
    },
    refused={"function_call": (), "audio": ()},
)


def check_messages(messages: Sequence[BaseModel]) -> None:
    """Raise `InvalidInput` unless the fields of messages that are none of their model may stand there.

    Null is no content: other servers write their own fields so, and clients send them back.
    """
    for index, message in enumerate(messages):
        for name, value in (message.model_extra or {}).items():
            if value is not None:
                _MESSAGE.check(name, value, f"messages.{index}.{name}")
