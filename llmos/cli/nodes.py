"""`llmos node …`."""

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, size
from llmos.config import Target

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
            ", ".join(f"{gpu.name or gpu.id} {size(gpu.memory)}" for gpu in node.status.gpus),
            ", ".join(node.replicas),
        )
        for node in nodes
    ]
    print_table(("NODE", "MEMORY", "THREADS", "GPUS", "REPLICAS"), rows, empty="No node is up. See: llmos status")
