"""Stages on a Ray cluster: blocks travel to nodes, results come back; what a lost node had is done again."""

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from devtools.data.executors import in_order
from devtools.data.libraries import load
from devtools.data.stage import Block, Output, Stage, run_block
from shared.errors import Unavailable

RETRIES = 20
"""Of a block, when its node or its process is lost."""
_AHEAD = 4
"""Blocks for each processor of the cluster that are sent before their results are needed."""
_QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""No warning about variables for accelerators."""


class OnRay:
    """A Ray cluster that runs. Its nodes need LLMOS with the extra `ray`.

    Args:
        address: `host:6379`, or `auto` for the cluster that this machine is a node of.
    """

    def __init__(self, address: str) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self._ray: Any = load("ray", "ray")
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise Unavailable(f"no Ray cluster answers at {address}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def run(self, stage: Stage, blocks: Iterable[Block]) -> Iterator[Output]:
        """What the blocks give, in their order."""
        ray = self._ray
        task = ray.remote(max_retries=RETRIES, num_cpus=1)(run_block)
        sent = ray.put(stage)
        ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            yield from in_order(lambda block: task.remote(sent, block), blocks, ahead, ray.get)
        except ray.exceptions.RayError as error:
            raise Unavailable(f"the Ray cluster lost a block for good: {error}") from error
