"""`llmos node …`."""

from collections import Counter
from typing import get_args

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, size
from llmos.config import Target
from shared.contracts.job import JobKind
from shared.contracts.scheduler import NodeView

app = typer.Typer(no_args_is_help=True, help="Machines that run replicas.")


@app.callback()
def group() -> None:
    """Machines that run replicas."""


@app.command("list")
def list_(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """Nodes that are up, their capacity and what is granted on them. --json says why kinds of jobs can't run."""
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
            _jobs(node),
            ", ".join(node.replicas),
        )
        for node in nodes
    ]
    columns = ("NODE", "MEMORY", "THREADS", "GPUS", "JOBS", "REPLICAS")
    print_table(columns, rows, empty="No node is up. See: llmos status")


def _jobs(node: NodeView) -> str:
    """The kinds of jobs that it can run: `all`, `all but train`, `none`."""
    lacking = node.status.lacking
    if len(lacking) == len(get_args(JobKind)):
        return "none"
    return f"all but {', '.join(sorted(lacking))}" if lacking else "all"


def _gpus(node: NodeView) -> str:
    """`2 x NVIDIA L4, 3.1 GiB of 40.2 GiB`."""
    gpus = node.status.gpus
    if not gpus:
        return ""
    names = ", ".join(f"{count} x {name}" for name, count in Counter(gpu.name or gpu.id for gpu in gpus).items())
    return f"{names}, {size(node.granted.gpu_memory)} of {size(sum(gpu.memory for gpu in gpus))}"
