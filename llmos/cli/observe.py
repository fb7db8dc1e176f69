"""`llmos status`, `trace`, `logs`."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from llmos.cli.lineage_view import add_lineage
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import note, print_json, print_table, print_tree, say, write_document
from llmos.cli.trace_view import tree
from llmos.cli.traces import print_traces
from llmos.client import why_not_ready
from llmos.config import Target
from shared.contracts.monitor import HealthReport
from shared.contracts.scheduler import DeploymentList, ReplicaState
from shared.contracts.scrub import STORE, ScrubList
from shared.disk import readable_bytes
from shared.errors import InvalidInput, LlmosError, NotFound

TRACE_TIMEOUT_S = 5.0
HEALTH_TIMEOUT_S = 1.0
DEPLOYMENTS_TIMEOUT_S = 2.0
"""`status` is for the moment when something has stopped: what does not answer is unknown."""
FOLLOW_S = 0.3

Known = TypeVar("Known")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command(epilog="Examples: llmos trace (lists the newest) · llmos trace 0af7651916cd43dd8448eb211c80319c")(
        trace
    )
    app.command(epilog="Examples: llmos logs · llmos logs gateway -f")(logs)


def status(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """The health of every process and what is deployed. Exit code 1 if a part of it can't be known now."""
    with Target.resolve(home, url, api_key).client() as client, ThreadPoolExecutor(3) as pool:
        asked_health = pool.submit(_known, client.health, HEALTH_TIMEOUT_S)
        asked_deployments = pool.submit(_known, client.deployments, DEPLOYMENTS_TIMEOUT_S)
        asked_scrubs = pool.submit(_known, client.scrubs, DEPLOYMENTS_TIMEOUT_S)
        health = asked_health.result()
        if not json and not isinstance(health, LlmosError):
            say(f"LLMOS at {client.url}")
            _print_health(health)
        listed, scrubs = asked_deployments.result(), asked_scrubs.result()
    unknown = {
        what: error.message
        for what, error in (("instances", health), ("deployments", listed), ("damage", scrubs))
        if isinstance(error, LlmosError)
    }
    if isinstance(health, LlmosError) and isinstance(listed, LlmosError):
        raise listed
    if json:
        instances = [] if isinstance(health, LlmosError) else health.instances
        deployments = [] if isinstance(listed, LlmosError) else listed.deployments
        scrubbed = [] if isinstance(scrubs, LlmosError) else scrubs.scrubs
        print_json(
            {
                "url": client.url,
                "instances": [item.model_dump(mode="json") for item in instances],
                "deployments": [item.model_dump(mode="json") for item in deployments],
                "scrubs": [item.model_dump(mode="json") for item in scrubbed],
                "unknown": unknown,
            }
        )
    else:
        if not isinstance(listed, LlmosError):
            _print_deployments(listed)
        if not isinstance(scrubs, LlmosError):
            _print_damage(scrubs)
    for what, why in unknown.items():
        note(f"{what}: unknown; {why}")
    if unknown:
        raise typer.Exit(1)


def _known(ask: Callable[..., Known], timeout: float) -> Known | LlmosError:
    """The answer, or why there is none within `timeout` seconds."""
    try:
        return ask(timeout=timeout)
    except LlmosError as error:
        return error


def _print_health(health: HealthReport) -> None:
    rows = [
        (
            item.heartbeat.service,
            item.heartbeat.instance,
            ("ready" if item.heartbeat.ready else "not ready") if item.up else f"silent for {item.age:.0f} s",
            item.heartbeat.pid,
            "; ".join(item.heartbeat.reasons),
        )
        for item in health.instances
    ]
    print_table(("SERVICE", "INSTANCE", "STATE", "PID", "WHY"), rows, empty="No process was heard of lately.")
    disks = {item.heartbeat.disk.folder: item.heartbeat.disk for item in health.instances if item.heartbeat.disk}
    for folder, disk in sorted(disks.items()):
        say(f"disk {folder}: {readable_bytes(disk.free)} free of {readable_bytes(disk.total)}")
        if disk.why:
            say(f"  {disk.why}")


def _print_deployments(listed: DeploymentList) -> None:
    for item in listed.deployments:
        shown = item.deployment
        why = "" if item.ready == shown.replicas else f": {why_not_ready(item)}"
        say(f"{shown.name}: {shown.model}:{shown.version}, {item.ready} of {shown.replicas} ready{why}")
        for replica in item.replicas:
            if replica.state is ReplicaState.READY and replica.message:
                say(f"  {replica.id} {replica.message}")


def _print_damage(scrubs: ScrubList) -> None:
    for scrub in scrubs.scrubs:
        place = "the store" if scrub.place == STORE else f"the cache of node {scrub.place}"
        for blob in scrub.damaged:
            files = ", ".join(blob.files) or "no version's"
            say(
                f"damaged in {place}: {blob.digest[:12]} ({files}), found {blob.found_at:%Y-%m-%d %H:%M} UTC",
                style="bold red",
            )


def trace(
    trace_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="32 hexadecimal digits: an answer's x-trace-id.")
    ] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """The way of a request through all services, and of its model back to rows; without an id, the newest traces."""
    with Target.resolve(home, url, api_key).client() as client:
        if trace_id is None:
            print_traces(client.traces(20), json=json)
            return
        trace_id = trace_id.strip().lower()
        if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
            raise InvalidInput(f"{trace_id!r} is not a trace id; expected 32 hexadecimal digits", param="id")
        deadline = time.monotonic() + TRACE_TIMEOUT_S
        while True:
            try:
                document = client.trace(trace_id)
                break
            except NotFound:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        if json:
            print_json(document)
            return
        top = tree(document, trace_id)
        add_lineage(client, document, top)
    print_tree(top)


def logs(
    service: Annotated[str | None, typer.Argument(help="One process. \\[default: all]", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines of the past, per process.")] = 50,
    home: HomeOption = None,
) -> None:
    """Logs of the embedded system's processes on this machine."""
    folder = Target.resolve(home, None, None).home.logs
    offsets: dict[Path, int] = {}
    for path in _files(folder, service):
        for line in _lines(path.read_bytes())[-lines:] if lines else ():
            _print_line(path, line)
        offsets[path] = path.stat().st_size
    while follow:
        for path in _files(folder, service):
            for line in _new_lines(path, offsets):
                _print_line(path, line)
        time.sleep(FOLLOW_S)


def _files(folder: Path, service: str | None) -> list[Path]:
    files = sorted(folder.glob("*.log"))
    names = sorted({path.stem for path in files})
    if service is None:
        return files
    chosen = [path for path in files if path.stem == service or path.stem.startswith(f"{service}-")]
    if not chosen:
        raise NotFound(f"no log of {service!r}: there are {', '.join(names) or 'none yet'}", param="service")
    return chosen


def _new_lines(path: Path, offsets: dict[Path, int]) -> Iterator[str]:
    start = offsets.get(path, 0)
    if path.stat().st_size < start:
        start = 0  # the file was rotated
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    whole, _, _ = data.rpartition(b"\n")
    if whole:
        offsets[path] = start + len(whole) + 1
        yield from _lines(whole)


def _lines(data: bytes) -> list[str]:
    """Split at line feeds alone: a log line is JSON, which may have U+2028 and others that `splitlines` splits at."""
    return data.decode(errors="replace").removesuffix("\n").split("\n") if data else []


def _print_line(path: Path, line: str) -> None:
    write_document(f"{path.stem}: {line}\n")
