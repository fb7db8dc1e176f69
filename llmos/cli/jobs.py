"""`llmos jobs` and `llmos job …`: finite work on nodes."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from llmos.cli.options import (
    DetachOption,
    HomeOption,
    JsonOption,
    KeyOption,
    PriorityOption,
    RetriesOption,
    ThreadsOption,
    UrlOption,
)
from llmos.cli.output import note, print_json, print_table, say, write_document
from llmos.config import Target
from shared.contracts.job import CreateJob, Desired, Job, JobState
from shared.contracts.manifest import Kind
from shared.contracts.resources import Resources
from shared.errors import InvalidInput, LlmosError

app = typer.Typer(no_args_is_help=True, help="Finite work on nodes: training, evaluation, a program of your own.")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as in 'llmos jobs'.")]
_GIB = 1 << 30


def register(root: typer.Typer) -> None:
    """Add `llmos jobs` to the commands."""
    root.command("jobs", epilog="Example: llmos jobs")(list_)


def list_(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """All jobs, the newest first: what they do, where, how far they are and why they wait."""
    with Target.resolve(home, url, api_key).client() as client:
        jobs = client.jobs.list()
    if json:
        print_json([job.model_dump(mode="json") for job in jobs])
        return
    rows = [(job.id, _what(job), job.state, _progress(job), _where(job), job.message) for job in jobs]
    print_table(
        ("JOB", "WHAT", "STATE", "PROGRESS", "NODE", "MESSAGE"), rows, empty="No jobs yet. Try: llmos job run --help"
    )


@app.command(epilog="Example: llmos job show train-x7k2qa")
def show(
    job: JobArgument,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """One job: inputs, state, progress, results."""
    with Target.resolve(home, url, api_key).client() as client:
        record = client.jobs.show(job)
    if json:
        print_json(record)
        return
    spec = record.spec
    facts = {
        "what": _what(record),
        "state": f"{record.state}{f' on {_where(record)}' if record.nodes else ''}",
        "nodes": f"{spec.node_count}" if spec.node_count > 1 else "",
        "message": record.message,
        "base": f"{spec.base.reference}  {spec.base.digest[:12]}" if spec.base else "",
        "data": ", ".join(f"{one.reference}  {one.digest[:12]}" for one in spec.datasets),
        "progress": _progress(record),
        "metrics": "  ".join(f"{name} {value:.4g}" for name, value in record.progress.metrics.items()),
        "checkpoint": f"step {record.checkpoint.step}" if record.checkpoint else "",
        "attempts": f"{record.attempt}, {record.failures} failed, {record.preemptions} preempted",
        "results": ", ".join(record.results),
        "created": f"{record.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "took": _took(record),
    }
    say(record.id, style="bold")
    for name, fact in facts.items():
        if fact:
            say(f"  {name:<10} {fact}")


@app.command(epilog="Example: llmos job logs train-x7k2qa -f")
def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has finished.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """What happened in a job, and what it printed."""
    with Target.resolve(home, url, api_key).client() as client:
        for event in client.jobs.events(job, follow=follow):
            if json:
                write_document(event.encode().decode() + "\n")  # one line each, also while it follows
            elif event.kind == "log":
                say(event.message)
            else:
                metrics = (
                    "  ".join(f"{k} {v:.4g}" for k, v in event.progress.metrics.items()) if event.progress else ""
                )
                say(f"{event.at:%H:%M:%S} {event.kind}: {event.message}  {metrics}".rstrip(), style="dim")


@app.command(epilog="Example: llmos job pause train-x7k2qa")
def pause(job: JobArgument, home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None) -> None:
    """Save a checkpoint and stop; the job keeps its place in its work."""
    _change(job, Desired.PAUSE, home, url, api_key)


@app.command(epilog="Example: llmos job resume train-x7k2qa")
def resume(job: JobArgument, home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None) -> None:
    """Go on with a paused job, or try a failed one again."""
    _change(job, Desired.RUN, home, url, api_key)


@app.command(epilog="Example: llmos job cancel train-x7k2qa")
def cancel(job: JobArgument, home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None) -> None:
    """End a job for good."""
    _change(job, Desired.CANCEL, home, url, api_key)


@app.command(epilog="Example: llmos job delete train-x7k2qa")
def delete(job: JobArgument, home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None) -> None:
    """Forget a job that has finished. What it made stays."""
    with Target.resolve(home, url, api_key).client() as client:
        client.jobs.delete(job)
    say(f"{job} deleted")


@app.command(
    epilog="Example: llmos job run --data support:2 --result model --name helper -- python train.py {data} {output}"
)
def run(
    command: Annotated[
        list[str],
        typer.Argument(
            help="The program and its arguments, after --. {base}, {data}, {output} and {checkpoints} become folders."
        ),
    ],
    base: Annotated[
        str | None, typer.Option(help="Version of a model that the program gets as a Hugging Face directory.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option(help="Dataset that it gets as a folder; may be repeated.")] = None,
    result: Annotated[
        Literal["model", "adapter"] | None,
        typer.Option(
            help="What the program leaves in the output folder: a Hugging Face model, or PEFT's files of an adapter,"
            " which is merged into the base. It becomes a version."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The result's name.")] = None,
    memory: Annotated[float, typer.Option(min=0.01, help="GiB of memory that it may use.")] = 4.0,
    threads: ThreadsOption = 0,
    priority: PriorityOption = 0,
    retries: RetriesOption = 2,
    detach: DetachOption = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Run a program of your own on a node, with versions as folders; what it leaves becomes a version."""
    if (result is None) != (name is None):
        raise InvalidInput("--result and --name go together: what is made, and its name", param="result")
    if result == "adapter" and base is None:
        raise InvalidInput("an adapter needs the base that it is merged into: --base", param="base")
    request = CreateJob(
        kind="run",
        base=base,
        datasets=tuple(data or ()),
        command=tuple(command),
        result=Kind.MODEL if result is not None else None,
        result_name=name,
        resources=Resources(memory=int(memory * _GIB), threads=threads),
        priority=priority,
        retries=retries,
    )
    start(request, detach=detach, target=Target.resolve(home, url, api_key))


def start(request: CreateJob, *, detach: bool, target: Target) -> Job | None:
    """Queue a job, follow it to its end and return it; Ctrl-C leaves it running. None if detached.

    Raises:
        LlmosError: The job failed or was cancelled.
    """
    with target.client() as client:
        job = client.jobs.create(request)
        say(f"{job.id}  {_what(job)}  {job.state}")
        if job.message:
            say(job.message)
        if detach:
            return None
        try:
            for event in client.jobs.events(job.id):
                say(event.message, style="" if event.kind == "log" else "dim")
        except KeyboardInterrupt:
            note(f"the job goes on: llmos job logs {job.id} -f, llmos job cancel {job.id}")
            raise typer.Exit(130) from None
        job = client.jobs.show(job.id)
    if job.state is not JobState.SUCCEEDED:
        raise LlmosError(f"{job.id} has {job.state}: {job.message}")
    for made in job.results:
        say(made)
    return job


def _change(job: str, desired: Desired, home: HomeOption, url: UrlOption, api_key: KeyOption) -> None:
    with Target.resolve(home, url, api_key).client() as client:
        record = client.jobs.change(job, desired)
    say(f"{record.id} {record.state}")


def _what(job: Job) -> str:
    """`train smollm2:1 support:2 -> helper`."""
    spec = job.spec
    inputs = [one.reference for one in ((spec.base, *spec.datasets) if spec.base else spec.datasets)]
    program = [spec.command[0]] if spec.command else []
    made = ["->", spec.result_name] if spec.result_name else []
    return " ".join([spec.kind, *program, *inputs, *made])


def _where(job: Job) -> str:
    """Its nodes, the one that leads first."""
    return ", ".join(job.nodes)


def _progress(job: Job) -> str:
    progress = job.progress
    if not progress.steps:
        return f"step {progress.step}" if progress.step else ""
    left = f", {progress.eta_s:.0f} s left" if progress.eta_s and not job.state.finished else ""
    return f"{progress.step}/{progress.steps}{left}"


def _took(job: Job) -> str:
    if job.started_at is None:
        return ""
    return f"{((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds():.0f} s"
