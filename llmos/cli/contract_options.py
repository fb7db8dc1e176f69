"""Command-line options made from the fields of a contract: names, types, bounds, defaults and help stand there."""

from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from llmos.cli.options import parse_size
from shared.contracts.base import Contract

Command = Callable[..., None]


def with_options_of(contract: type[Contract]) -> Callable[[Command], Command]:
    """For a command with `**options`: an option for each field, before the command's keyword-only parameters."""

    def decorate(command: Command) -> Command:
        own = signature(command)
        first = [each for each in own.parameters.values() if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
        last = [each for each in own.parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
        whole = own.replace(parameters=[*first, *_parameters(contract), *last])
        command.__signature__ = whole  # type: ignore[attr-defined]  # what typer reads instead of the code
        return command

    return decorate


def _parameters(contract: type[Contract]) -> Iterator[Parameter]:
    for name, field in contract.model_fields.items():
        annotation = Annotated[field.annotation, _option(field)]  # type: ignore[name-defined]  # known at run time
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)


def _option(field: FieldInfo) -> Any:
    shown: dict[str, Any] = {"help": field.description, "show_default": field.default is not None}
    if field.json_schema_extra == {"unit": "bytes"}:
        return typer.Option(metavar="SIZE", parser=parse_size, **shown)
    bounds = {name: getattr(each, name) for each in field.metadata for name in ("ge", "le") if hasattr(each, name)}
    return typer.Option(min=bounds.get("ge"), max=bounds.get("le"), **shown)
