"""`llmos suite import`: files of public sets, and tables, as suites."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, progress_bars, say
from llmos.config import Target
from llmos.dataset_versions import check_name, publish, work_folder
from shared.contracts.registry import DatasetVersion
from shared.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Evaluation items from files of public sets, or by a template.")


@app.command(
    "import",
    epilog="Example: llmos suite import xsum.jsonl --name xsum --template 'Summarise: {document}' --reference summary"
    " --scorer rouge",
)
def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines or CSV.")],
    name: Annotated[str, typer.Option("--name", help="Name of the suite; a new version is made each time.")],
    form: Annotated[str | None, typer.Option(help="stereoset, crows-pairs or bbq.")] = None,
    template: Annotated[str, typer.Option(help="The prompt, with {field} for a value of the record.")] = "",
    scorer: Annotated[str, typer.Option(help="How the items are scored. [default: by what they have]")] = "",
    reference: Annotated[str | None, typer.Option(help="Field of the right answer or answers.")] = None,
    choices: Annotated[str | None, typer.Option(help="Field of the choices: a list, or lines 'A. …'.")] = None,
    answer: Annotated[str | None, typer.Option(help="Field of the right choice: index, letter or text.")] = None,
    group: Annotated[str | None, typer.Option(help="Field of what items have in common, such as a document.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A label of every item, as max_tokens=64; may be repeated.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat/--text", help="The prompt is a message, or a text to go on.")] = True,
    license_: Annotated[str | None, typer.Option("--license", help="Of the items, for example CC-BY-SA-4.0.")] = None,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Make a suite of a file: a dataset of kind evaluation. 'llmos data import --as evaluation' takes ready items."""
    from devtools.evaluate.forms import template_of  # noqa: PLC0415  # other commands start without it
    from devtools.evaluate.write_suite import write_suite  # noqa: PLC0415

    target = Target.resolve(home, url, api_key)
    fields = {"scorer": scorer, "reference": reference, "choices": choices, "answer": answer, "group": group}
    with target.client() as client, work_folder() as folder, progress_bars() as progress:
        check_name(name)
        reader = template_of(template, form, **fields, chat=chat, labels=_labels(label or ()))
        client.datasets.list()  # a wrong URL or key fails here
        manifest = write_suite(source, reader, folder, form=form or "template", license=license_)
        version = publish(client, name, manifest, folder, journals=target.home.imports, progress=progress)
    _print(version, json=json)


def _labels(given: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InvalidInput(f"--label {text!r}: expected NAME=VALUE", param="label")
        labels[key] = value
    return labels


def _print(version: DatasetVersion, *, json: bool) -> None:
    if json:
        print_json(version)
        return
    say(f"{version.reference}  {version.manifest.row_count} items  {version.digest[:12]}")
