"""Command-line options made from the fields of a contract: names, types, bounds, defaults and help stand there."""

from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from rich.markup import escape

from llmos.cli.options import size_option
from shared.contracts.base import Contract
from shared.contracts.manifest import NAME_PATTERN, NAME_RULE
from shared.errors import InvalidInput

Command = Callable[..., None]
Given = TypeVar("Given", bound=Contract)


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


def contract_of(contract: type[Given], **values: Any) -> Given:
    """The contract with the options' values; raises `InvalidInput` naming the option."""
    try:
        return contract(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        pattern = first.get("ctx", {}).get("pattern")
        expected = NAME_RULE if pattern == NAME_PATTERN else first["msg"]
        raise InvalidInput(
            f"--{name.replace('_', '-')} {first['input']!r}: expected {expected}", param=name
        ) from error


def _parameters(contract: type[Contract]) -> Iterator[Parameter]:
    for name, field in contract.model_fields.items():
        annotation = Annotated[field.annotation, _option(field)]  # type: ignore[name-defined]  # known at run time
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)


def _option(field: FieldInfo) -> Any:
    shown: dict[str, Any] = {"help": escape(field.description or ""), "show_default": field.default is not None}
    if field.json_schema_extra == {"unit": "bytes"}:
        return typer.Option(metavar="SIZE", parser=size_option, **shown)
    bounds = {name: getattr(each, name) for each in field.metadata for name in ("ge", "le") if hasattr(each, name)}
    return typer.Option(min=bounds.get("ge"), max=bounds.get("le"), **shown)
