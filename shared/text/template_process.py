"""Renders chat templates in a worker process."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import InvalidInput, from_payload
from shared.service.worker_process import WorkerKilled, WorkerProcess
from shared.text.template import ADVICE, NO_VARIABLES
from shared.text.template_messages import Render, Rendered

CPU_LIMIT_S = 2.0
"""Processor seconds that a rendering may take, the compilation of a new template included."""
MEMORY_LIMIT = 512 << 20
"""Bytes of address space that the worker may have."""


class TemplateProcess(WorkerProcess):
    """Renders prompts with one chat template.

    Args:
        source: The chat template, jinja2.
        special_tokens: Texts of special tokens, by names of `SPECIAL_TOKENS`.
        cpu_limit_s: Processor seconds that compiling and rendering may take.
    """

    def __init__(
        self, source: str, special_tokens: Mapping[str, str] | None = None, *, cpu_limit_s: float = CPU_LIMIT_S
    ) -> None:
        super().__init__("shared.text.template_worker", cpu_limit_s=cpu_limit_s, memory_limit=MEMORY_LIMIT)
        self._template = Render(source=source, special_tokens=dict(special_tokens or {}), messages=())
        self._cpu_limit_s = cpu_limit_s

    @property
    def source(self) -> str:
        """The chat template."""
        return self._template.source

    async def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] = (),
        *,
        variables: Mapping[str, Any] = NO_VARIABLES,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt: `ChatTemplate.render` in the worker.

        Raises:
            InvalidInput: The template does not compile, refuses the messages, fails on them, or exceeds the limits.
            Draining: `running` was left.
        """
        asked = {
            "messages": tuple(messages),
            "tools": tuple(tools),
            "variables": dict(variables),
            "add_generation_prompt": add_generation_prompt,
        }
        request = self._template.model_copy(update=asked)
        try:
            response = await self.request(request.model_dump_json().encode())
        except WorkerKilled as error:
            raise InvalidInput(
                f"the model's chat template was stopped: it took more than {self._cpu_limit_s:g} s"
                f" or too much memory; {ADVICE}"
            ) from error
        rendered = Rendered.model_validate_json(response)
        if rendered.error is not None:
            raise from_payload(rendered.error)
        return rendered.prompt
