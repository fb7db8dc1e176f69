"""Tries grammars in a worker process."""

import json

from services.inference.text.grammar.limits import CPU_LIMIT_S, MEMORY_LIMIT, NICENESS
from services.inference.text.grammar.source import GrammarSource
from shared.service.worker_process import WorkerKilled, WorkerProcess


class GrammarProcess(WorkerProcess):
    """Tries grammars one at a time, at a low priority: running requests go first."""

    def __init__(self) -> None:
        super().__init__(
            "services.inference.text.grammar.worker",
            cpu_limit_s=CPU_LIMIT_S,
            memory_limit=MEMORY_LIMIT,
            niceness=NICENESS,
        )

    async def check(self, source: GrammarSource) -> str | None:
        """Why the grammar does not compile within `CPU_LIMIT_S` seconds and `MEMORY_LIMIT` bytes, or None.

        Raises:
            Draining: `running` was left.
        """
        try:
            reason: str | None = json.loads(await self.request(json.dumps(source.lark).encode()))
        except WorkerKilled as error:
            exceeded = (
                f"{CPU_LIMIT_S:g} s of processor time" if error.out_of_time else f"{MEMORY_LIMIT >> 20} MiB of memory"
            )
            return f"it is too complex: compiling it takes more than {exceeded}; simplify it"
        return reason
