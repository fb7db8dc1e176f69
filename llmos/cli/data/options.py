"""Options that several commands of `llmos data` take."""

from typing import Annotated

import typer

ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="name, name:3 or name@alias.")]
RegionOption = Annotated[
    list[str] | None,
    typer.Option("--region", help="Country whose national phone numbers count, for example US; may be repeated."),
]
TokenizerOption = Annotated[
    str | None, typer.Option("--tokenizer", help="tokenizer.json, or the model whose tokenizer counts tokens.")
]
