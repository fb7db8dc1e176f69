"""`llmos evaluate` and `llmos gate`: measure what is served, and decide whether it may take another's place."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmos import evaluating
from llmos.cli import jobs
from llmos.cli.options import DetachOption, HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, print_table, progress_bars, say
from llmos.cli.reports import print_report
from llmos.config import Target
from llmos.dataset_versions import work_folder
from shared.contracts.job import CreateJob
from shared.contracts.manifest import Kind
from shared.contracts.registry import ReportVersion
from shared.contracts.resources import Resources
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from devtools.evaluate.gate import Verdict
    from devtools.evaluate.options import Options

EXIT_FAIL, EXIT_UNDECIDED = 1, 3
_JOB_MEMORY = 512 << 20

SubjectArgument = Annotated[
    str, typer.Argument(metavar="REF", help="A deployment, or a version that a deployment serves.")
]
SuiteOption = Annotated[
    list[str] | None, typer.Option("--suite", "-s", help="Suites, with commas between them; may be repeated.")
]
CountOption = Annotated[
    int | None, typer.Option("--n", min=1, help="Items of each suite at most; always the same ones.")
]
JudgeOption = Annotated[str | None, typer.Option(help="The deployment that judges, for suites that want one.")]


def register(root: typer.Typer) -> None:
    """Add `llmos evaluate` and `llmos gate` to the commands."""
    root.command("evaluate", epilog="Example: llmos evaluate helper --against smollm2 --suite team,safety")(evaluate)
    root.command("gate", epilog="Example: llmos gate helper --against smollm2 --may-fall-by 0.02")(gate)


def evaluate(
    reference: SubjectArgument,
    suite: SuiteOption = None,
    against: Annotated[
        str | None, typer.Option(help="Another one that is asked the same, for differences on the same items.")
    ] = None,
    n: CountOption = None,
    typos: Annotated[
        float, typer.Option(min=0, max=0.5, help="Ask each item also with errors in this share of its letters.")
    ] = 0.0,
    judge: JudgeOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the report. [default: the model's]")] = None,
    job: Annotated[bool, typer.Option("--job/--here", help="Run on a node, or in this terminal.")] = True,
    detach: DetachOption = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Put suites to what is served; the figures become a version of a report."""
    target = Target.resolve(home, url, api_key)
    suites = _names(suite)
    options = _options(reference, against, n=n, typos=typos, judge=judge)
    with target.client() as client:
        if not suites:
            raise InvalidInput(
                "name at least one suite: --suite NAME; 'llmos data list' shows datasets", param="suite"
            )
        if name is not None:
            evaluating.check_report_name(name)
        if not job:
            print_report(_here(target, options, suites, name), json=json)
            return
        if json:
            raise InvalidInput("--json goes with --here; a job's report: llmos report show NAME --json", param="json")
        subject, *_ = evaluating.find(client, *filter(None, (reference, against)))
    request = CreateJob(
        kind="evaluate",
        base=subject.reference,
        datasets=tuple(suites),
        recipe=options.model_copy(update={"subject": subject.deployment}).to_toml(),
        result=Kind.REPORT,
        result_name=name or subject.reference.rsplit(":", 1)[0],
        resources=Resources(memory=_JOB_MEMORY, threads=0),
    )
    made = jobs.start(request, detach=detach, target=target)
    if made is not None and made.results:
        with target.client() as client:
            print_report(client.reports.version(made.results[0].split()[-1]), json=False)


def gate(
    reference: SubjectArgument,
    against: Annotated[
        str | None, typer.Option(help="What it is compared with: a deployment, or a version of one.")
    ] = None,
    suite: SuiteOption = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A gate.toml: suites with a margin each, in place of the options for these."
        ),
    ] = None,
    report: Annotated[
        list[str] | None,
        typer.Option("--report", help="Reports that have the items; may be repeated. [default: the newest of both]"),
    ] = None,
    may_fall_by: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How much worse it may be: 0.02 is two points, or 2 % of a perplexity. [default: 0.02]",
            show_default=False,
        ),
    ] = None,
    must_rise_by: Annotated[float | None, typer.Option(min=0, help="How much better it must be, instead.")] = None,
    n: CountOption = None,
    judge: JudgeOption = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Whether a version may take another's place. Exit code 0: pass, 1: fail, 3: undecided.

    With --suite or --policy alone, the suites are put to both now. With --report, or with none of them, reports that
    exist are used.
    """
    from devtools.evaluate.gate import MAY_FALL_BY, Outcome, Rule, overall  # noqa: PLC0415  # others start without it
    from devtools.evaluate.policy import Policy, read_gate  # noqa: PLC0415

    target = Target.resolve(home, url, api_key)
    suites, reports = _names(suite), list(report or ())
    if policy is not None:
        given = {"--suite": suites, "--may-fall-by": may_fall_by, "--must-rise-by": must_rise_by}
        if twice := [option for option, value in given.items() if value not in (None, [])]:
            raise InvalidInput(f"--policy says it already: leave out {', '.join(twice)}", param="policy")
        file = read_gate(policy)
        rules, suites = file.policy(), list(file.suites)
        against, n, judge = against or file.against, n or file.n, judge or file.judge
    else:
        rule = Rule(MAY_FALL_BY if may_fall_by is None else may_fall_by, must_rise_by)
        rules = Policy(dict.fromkeys(suites, rule), rule)
    if against is None:
        raise InvalidInput("what is it compared with? Give --against REF, or 'against' in --policy", param="against")
    if suites and not reports:
        options = _options(reference, against, n=n, typos=0.0, judge=judge)
        reports = [_here(target, options, suites, None).reference]
    with target.client() as client, work_folder() as folder:
        verdicts = evaluating.gate(client, reference, against, reports, policy=rules, folder=folder)
    outcome = overall(verdicts)
    if json:
        print_json({"outcome": outcome, "suites": [asdict(verdict) for verdict in verdicts]})
    else:
        _print_verdicts(verdicts)
        say(f"{outcome}", style="bold")
    if outcome is not Outcome.PASS:
        raise typer.Exit(EXIT_FAIL if outcome is Outcome.FAIL else EXIT_UNDECIDED)


def _here(target: Target, options: "Options", suites: list[str], name: str | None) -> ReportVersion:
    with target.client() as client, work_folder() as folder, progress_bars() as progress:
        return evaluating.evaluate_here(client, options, suites, name=name, folder=folder, progress=progress)


def _options(reference: str, against: str | None, *, n: int | None, typos: float, judge: str | None) -> "Options":
    from devtools.evaluate.options import Options  # noqa: PLC0415

    return Options(subject=reference, against=against, n=n, typos=typos, judge=judge)


def _names(suites: list[str] | None) -> list[str]:
    """`a,b` and further ones as a list."""
    return [name.strip() for given in suites or () for name in given.split(",") if name.strip()]


def _print_verdicts(verdicts: "list[Verdict]") -> None:
    rows = []
    for verdict in verdicts:
        interval = "" if verdict.low is None else f"{verdict.low:+.3f} to {verdict.high:+.3f}"
        needed = f"about {verdict.needed} items would decide" if verdict.needed else ""
        rows.append(
            (
                verdict.suite,
                verdict.metric,
                verdict.outcome,
                f"{verdict.improvement:+.3f}",
                interval,
                f"{verdict.threshold:+.3f}",
                verdict.n,
                needed,
            )
        )
    columns = ("SUITE", "METRIC", "VERDICT", "BETTER BY", "95 % INTERVAL", "THRESHOLD", "N", "")
    print_table(columns, rows, empty="no suites")
