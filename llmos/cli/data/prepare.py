"""`llmos data prepare`: steps on rows, here or as a job."""

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from llmos.cli.data.options import ReferenceArgument, RegionOption, TokenizerOption
from llmos.cli.data.print import line, print_findings, summary
from llmos.cli.jobs import start
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, progress_bars, write_document
from llmos.config import Target
from llmos.dataset_versions import Classifier, prepare_rows
from shared.contracts.job import CreateJob
from shared.contracts.manifest import Kind
from shared.contracts.resources import Resources
from shared.errors import InvalidInput

app = typer.Typer()
_GIB = 1 << 30

_EXAMPLE = (
    "Example: llmos data prepare support --near 0.7 --private mask --language en,zh --swap gender --validation 0.05"
)


@app.command(epilog=_EXAMPLE)
def prepare(
    reference: ReferenceArgument,
    name: Annotated[str | None, typer.Option(help="Name of the result. [default: that of the dataset]")] = None,
    keep_unicode: Annotated[bool, typer.Option("--keep-unicode", help="Do not repair Unicode.")] = False,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep equal rows.")] = False,
    min_characters: Annotated[int, typer.Option(min=0, help="Drop shorter rows.")] = 0,
    max_characters: Annotated[int, typer.Option(min=0, help="Drop longer rows.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=0, help="Drop rows of more tokens; needs --tokenizer.")] = 0,
    tokenizer: TokenizerOption = None,
    language: Annotated[str | None, typer.Option(help="Drop rows in other languages than these: en,zh.")] = None,
    repetition: Annotated[bool, typer.Option("--repetition", help="Drop answers that repeat themselves.")] = False,
    private: Annotated[str | None, typer.Option(help="Personal data: mask it, or drop the rows.")] = None,
    private_kinds: Annotated[str | None, typer.Option(help="Which: email,phone,iban,card,ip,key.")] = None,
    private_model: Annotated[
        str | None, typer.Option(help="Deployment that classifies sentences with persons.")
    ] = None,
    region: RegionOption = None,
    near: Annotated[
        float | None, typer.Option(min=0.3, max=1.0, help="Drop near-duplicates of this similarity.")
    ] = None,
    against: Annotated[list[str] | None, typer.Option(help="Drop rows with words of this suite; repeat it.")] = None,
    swap: Annotated[
        str | None, typer.Option(help="Counterfactual copies: gender, or pairs: nurse:doctor,cat:dog.")
    ] = None,
    balance: Annotated[
        str | None, typer.Option(help="Equal counts of both genders for these words: nurse,doctor.")
    ] = None,
    mix: Annotated[list[str] | None, typer.Option(help="Add rows of another dataset: REF=0.5 is half of it.")] = None,
    validation: Annotated[float, typer.Option(min=0, max=0.99, help="Share for validation.")] = 0.0,
    test: Annotated[float, typer.Option(min=0, max=0.99, help="Share for tests.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    recipe: Annotated[Path | None, typer.Option(help="TOML with steps, instead of options of steps.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe, and do nothing.")] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one for each processor]")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that does the steps: HOST:6379.")] = None,
    job: Annotated[bool, typer.Option("--job", help="Queue a job instead of working here.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="With --job: print the id and return.")] = False,
    memory: Annotated[float, typer.Option(min=0.1, help="With --job: GiB of memory.")] = 1.0,
    alias: Annotated[list[str] | None, typer.Option("--alias", help="Also point this alias at the result.")] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version of the rows of another one. The order of the steps is that of the options."""
    from devtools.data.recipe import Recipe  # noqa: PLC0415  # other commands start without it

    count = processes or os.cpu_count() or 1
    references = [reference, *(one.rpartition("=")[0] or one for one in mix or ()), *(against or ())]
    if recipe is not None:
        found = Recipe.parse(_read(recipe))
    else:
        steps: list[tuple[str, dict[str, Any]]] = [
            ("unicode", {}) if not keep_unicode else ("", {}),
            _given("length", min_characters=min_characters, max_characters=max_characters, max_tokens=max_tokens),
            _given("language", languages=_words(language)),
            ("repetition", {}) if repetition else ("", {}),
            _given(
                "private",
                action=private,
                kinds=_words(private_kinds),
                regions=[code.upper() for code in region or ()],
                model=private_model,
            ),
            ("duplicates", {}) if not keep_duplicates else ("", {}),
            _given("near-duplicates", threshold=near),
            ("overlap", {}) if against else ("", {}),
            _given("swap", pairs=_words(swap)),
            ("duplicates", {}) if swap and not keep_duplicates else ("", {}),  # a copy may equal a row
            _given("balance", terms=_words(balance)),
        ]
        found = Recipe(
            steps=[(step, values) for step, values in steps if step],
            mix=[(number, _share(one)) for number, one in enumerate(mix or (), start=1)],
            suites=[len(mix or ()) + number for number in range(1, len(against or ()) + 1)],
            split={"validation": validation, "test": test, "seed": seed} if validation or test else {},
            check=_given("", max_tokens=max_tokens, max_characters=max_characters)[1],
            processes=count,
        )
    if show:
        write_document(found.toml())
        return
    if job:
        found.verify(tokenizer=tokenizer is not None, classify=None)
    if job:
        if ray is not None or alias or (tokenizer and Path(tokenizer).exists()):
            raise InvalidInput(
                "--job goes with neither --ray nor --alias, and takes the tokenizer of a model's version", param="job"
            )
        request = CreateJob(
            kind="prepare",
            base=tokenizer,
            datasets=tuple(references),
            recipe=found.toml(),
            result=Kind.DATASET,
            result_name=name or _name_of(reference),
            resources=Resources(memory=int(memory * _GIB), threads=0),
        )
        start(request, detach=detach, target=Target.resolve(home, url, api_key))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end, clean up as after Ctrl-C
    target = Target.resolve(home, url, api_key)
    with target.client() as client, progress_bars() as progress:
        version = prepare_rows(
            client,
            references,
            name or _name_of(reference),
            found,
            executor=_executor(count, ray),
            tokenizer=tokenizer,
            classify=Classifier(client.url, client.api_key, private_model) if private_model else None,
            aliases=tuple(alias or ()),
            journals=target.home.imports,
            progress=progress,
        )
    if json:
        print_json(version)
        return
    line(f"{version.reference}  {summary(version.manifest)}  {version.digest[:12]}")
    for step in version.manifest.steps:
        changed = f", {step.changed} changed" if step.changed else ""
        line(f"  {step.name}: {step.rows_in} -> {step.rows_out} rows{changed}")
    line("  " + ", ".join(f"{split} {rows}" for split, rows in version.manifest.splits.items()))
    print_findings(version.manifest.findings)


def _executor(processes: int, ray: str | None) -> Any:
    if ray is not None:
        from devtools.data.on_ray import OnRay  # noqa: PLC0415

        return OnRay(ray)
    from devtools.data.executors import Here  # noqa: PLC0415

    return Here(processes)


def _given(step: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
    """The step with the parameters that are given; none if none is."""
    found = {key: value for key, value in parameters.items() if value not in (None, 0, "", [])}
    return (step, found) if found else ("", {})


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _share(mix: str) -> float:
    given = mix.rpartition("=")
    if not given[0]:
        return 1.0
    try:
        return float(given[2])
    except ValueError:
        raise InvalidInput(f"--mix {mix}: expected REF=SHARE, for example chats:2=0.5", param="mix") from None


def _name_of(reference: str) -> str:
    return reference.partition(":")[0].partition("@")[0]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--recipe {path} can't be read: {error}", param="recipe") from None
