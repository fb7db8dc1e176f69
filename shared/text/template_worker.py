"""The process that renders chat templates: a worker (`shared.service.worker`).

A template is untrusted and cannot be interrupted from inside Python: `{{ 3 ** (10 ** 9) }}` is one instruction.
"""

from functools import lru_cache

from shared.errors import LlmosError
from shared.service.worker import serve
from shared.text.template import ChatTemplate
from shared.text.template_messages import Render, Rendered

compiled = lru_cache(maxsize=1)(ChatTemplate)


def respond(request: bytes) -> bytes:
    """Render one prompt; the template is compiled when it is new."""
    asked = Render.model_validate_json(request)
    try:
        template = compiled(asked.source, **asked.special_tokens)
        prompt = template.render(
            asked.messages,
            asked.tools,
            variables=asked.variables,
            add_generation_prompt=asked.add_generation_prompt,
        )
        rendered = Rendered(prompt=prompt)
    except LlmosError as error:
        rendered = Rendered(error=error.payload())
    return rendered.model_dump_json().encode()


if __name__ == "__main__":
    serve(respond)
