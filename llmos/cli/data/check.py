"""`llmos data check`: findings about rows before any training."""

from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.data.options import RegionOption, TokenizerOption
from llmos.cli.data.print import line, print_findings
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, progress_bars
from llmos.config import Target
from llmos.dataset_versions import CheckRequest, check_rows

app = typer.Typer()


@app.command(epilog="Examples: llmos data check chats.jsonl; llmos data check support:2 --against team")
def check(
    sources: Annotated[list[str], typer.Argument(metavar="FILE...|REF", help="Files of rows, or one version.")],
    form: Annotated[str | None, typer.Option("--as", help="Form of the files, where it is not detected.")] = None,
    max_tokens: Annotated[int, typer.Option(min=0, help="Longer rows are a finding; needs --tokenizer.")] = 0,
    max_characters: Annotated[int, typer.Option(min=0, help="Longer rows are a finding.")] = 0,
    tokenizer: TokenizerOption = None,
    near: Annotated[float, typer.Option(min=0.3, max=1.0, help="Similarity of near-duplicates.")] = 0.7,
    no_near: Annotated[bool, typer.Option("--no-near", help="Do not look for near-duplicates.")] = False,
    against: Annotated[
        list[str] | None, typer.Option(help="Suite whose words must not be in rows; repeat it.")
    ] = None,
    region: RegionOption = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """What is wrong with rows, with file and line. Exit code 1 if there is something to decide."""
    request = CheckRequest(
        form=form,
        max_tokens=max_tokens,
        max_characters=max_characters,
        tokenizer=tokenizer,
        near=0.0 if no_near else near,
        against=tuple(against or ()),
        regions=tuple(code.upper() for code in region or ()),
    )
    files = [Path(source) for source in sources if Path(source).is_file()]
    target = Target.resolve(home, url, api_key)
    with progress_bars() as progress:
        if len(files) == len(sources) and not request.needs_gateway:
            report = check_rows(None, sources, request, progress)
        else:
            with target.client() as client:
                report = check_rows(client, sources, request, progress)
    facts = report.facts
    if json:
        print_json(
            {
                "rows": facts.rows,
                "kinds": dict(facts.kinds),
                "languages": dict(facts.languages),
                "forms": facts.forms,
                "characters": facts.characters,
                "findings": [finding.model_dump(mode="json") for finding in report.findings],
                "messages": list(report.messages),
            }
        )
    else:
        kinds = ", ".join(f"{count} {kind}" for kind, count in facts.kinds.items())
        line(f"{facts.rows} rows ({kinds})" if facts.rows else "no rows")
        for file, name in facts.forms.items():
            line(f"  form      {file}: {name}")
        low, middle, high, most = facts.characters
        line(f"  length    {low} to {most} characters, median {middle}, 95 % below {high}")
        spoken = ", ".join(f"{name or 'not sure'} {count}" for name, count in facts.languages.most_common(8))
        line(f"  language  {spoken}")
        print_findings(report.findings)
        for message in report.messages:
            line(f"  {message}")
        if not report.findings:
            line("nothing found")
    if report.findings:
        raise typer.Exit(1)
