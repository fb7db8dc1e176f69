"""`llmos node …`."""

from collections import Counter

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, size
from llmos.config import Target
from shared.contracts.scheduler import NodeView

app = typer.Typer(no_args_is_help=True, help="Machines that run replicas.")


@app.callback()
def group() -> None:
    """Machines that run replicas."""


@app.command("list")
def list_(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """Nodes that are up, their capacity and what is granted on them."""
    with Target.resolve(home, url, api_key).client() as client:
        nodes = client.nodes().nodes
    if json:
        print_json([node.model_dump(mode="json") for node in nodes])
        return
    rows = [
        (
            node.status.id,
            f"{size(node.granted.memory)} of {size(node.status.capacity.memory)}",
            f"{node.granted.threads} of {node.status.capacity.threads}",
            _gpus(node),
            ", ".join(node.replicas),
        )
        for node in nodes
    ]
    print_table(("NODE", "MEMORY", "THREADS", "GPUS", "REPLICAS"), rows, empty="No node is up. See: llmos status")


def _gpus(node: NodeView) -> str:
    """`2 x NVIDIA L4, 3.1 GiB of 40.2 GiB`."""
    gpus = node.status.gpus
    if not gpus:
        return ""
    names = ", ".join(f"{count} x {name}" for name, count in Counter(gpu.name or gpu.id for gpu in gpus).items())
    return f"{names}, {size(node.granted.gpu_memory)} of {size(sum(gpu.memory for gpu in gpus))}"
