"""What a run measures with: the sides that are there, and how long it may take."""

from dataclasses import dataclass

from benchmarks.serving.in_process import Bound, OpenVino
from benchmarks.serving.sides import LlamaServer, Llmos, Shape


@dataclass(frozen=True, slots=True)
class Setting:
    """Passed to every scenario."""

    llmos: Llmos
    llama: LlamaServer | None
    openvino: OpenVino | None
    bound: Bound
    quick: bool
    shape: Shape
    """Of the deployments in `throughput`."""
    rounds: int

    @property
    def servers(self) -> tuple[Llmos | LlamaServer, ...]:
        """The sides that speak HTTP, LLMOS first."""
        return (self.llmos, self.llama) if self.llama else (self.llmos,)
