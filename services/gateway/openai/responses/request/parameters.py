"""Parameters of OpenAI's responses that are not fields of our request."""

from typing import Literal

from services.gateway.http.parameters import Parameters

PARAMETERS = Parameters(
    ignored={
        "prompt_cache_retention": "the prefix cache keeps what fits",
        "prompt_cache_options": "the prefix cache keeps what fits",
        "service_tier": "there is one tier",
        "image": "there are no images",
        "access_programs": "tenants are keys",
    },
    refused={
        "truncation": ("disabled",),
        "prompt": (),
        "moderation": (),
        "context_management": ([],),
        "background_options": ({"completion_window": "soonest"},),
    },
    instead={
        "truncation": "a conversation that does not fit is refused, with both numbers, never shortened; leave items"
        " out",
        "prompt": "LLMOS stores no prompt templates; send the text as instructions or input",
        "moderation": "LLMOS has no moderation model of its own; ask a classifier with /v1/classify",
        "context_management": "LLMOS compacts no conversations; leave items out yourself",
        "background_options": "a background response starts at once",
    },
)
"""Of a request, where its model has no such field."""
Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
]
"""Values of `include`. All but the first have no effect: thoughts are not encrypted, and no tools are hosted."""
