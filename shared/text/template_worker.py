"""The process that renders chat templates: `python -m shared.text.template_worker`.

A template is untrusted and can't be interrupted from inside Python: `{{ 3 ** (10 ** 9) }}` is one instruction. So it
runs here, where the kernel limits processor time (a timer whose signal ends the process) and memory (address space).
The replica starts a new worker when one ends. A worker ends with its replica: its pipe closes, or its timer runs out.
"""

import resource
import signal
import sys
from typing import BinaryIO

from shared.errors import LlmosError
from shared.text.template import ChatTemplate
from shared.text.template_messages import (
    LENGTH,
    MEMORY_LIMIT,
    Render,
    Rendered,
    Start,
    pack,
)


def main() -> int:
    """Serve until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the replica, which still needs us while it drains
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    if (data := _read(requests)) is None:
        return 0
    start = Start.model_validate_json(data)
    template: ChatTemplate | None = None
    while data is not None:
        signal.setitimer(signal.ITIMER_PROF, start.cpu_limit_s)
        try:
            if template is None:
                template = ChatTemplate(start.source, bos_token=start.bos_token, eos_token=start.eos_token)
                answer = Rendered()
            else:
                asked = Render.model_validate_json(data)
                answer = Rendered(prompt=template.render(asked.messages, asked.tools))
        except LlmosError as error:
            answer = Rendered(error=error.payload())
        packed = pack(answer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(packed)
        answers.flush()
        if template is None:
            return 0
        data = _read(requests)
    return 0


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return stream.read(LENGTH.unpack(head)[0])


if __name__ == "__main__":
    sys.exit(main())
