"""Write `docs/configuration.md` from the settings of the services and the options of the command line.

python deploy/make_configuration.py
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import typer
from typer.models import OptionInfo

import services.gateway.settings
import services.inference.replica.settings
import services.inference.settings
import services.monitor.settings
import services.registry.settings
from llmos.cli import app
from shared.contracts.manifest import NAME_PATTERN, NAME_RULE
from shared.service.settings import ServiceSettings, variable_name

TARGET = Path(__file__).parents[1] / "docs" / "configuration.md"
_HEADER = f"""\
# Configuration

<!-- Written by `make docs` from the settings classes and the command line; a test compares. -->

A service reads its settings from its environment, once, at start. A wrong value ends the start with a message that
names the variable and what was expected. An empty variable counts as not set. A name is
{NAME_RULE}.

`llmos` takes a setting from the command's option, else from the environment, else from `config.toml` in the home
(`LLMOS_… = value`, one a line), else from the default. `llmos up` itself sets the variables of its services for
the bus, the store, the folders, the address and port of the gateway and its admin key file.
"""
_SECTIONS: dict[str, tuple[str, type[ServiceSettings]]] = {
    "All services": ("", ServiceSettings),
    "Registry": ("", services.registry.settings.Settings),
    "Inference: node agent": ("", services.inference.settings.Settings),
    "Inference: replica": (
        "A replica inherits the node agent's environment. The agent adds assignment, node and drain time.\n",
        services.inference.replica.settings.Settings,
    ),
    "Gateway": ("", services.gateway.settings.Settings),
    "Monitor": ("", services.monitor.settings.Settings),
}
"""Title: introduction and settings. The scheduler has none of its own."""
_SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD)$")


class Row(NamedTuple):
    """One variable."""

    variable: str
    value: str
    default: str
    description: str

    def __str__(self) -> str:
        cells = (f"`{self.variable}`", self.value, self.default, self.description)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


_OTHERS = [
    Row("LLMOS_KERNELS", "`vnni`, `avx2`, `portable`", "the best of this processor", "Kernels of the operators."),
    Row("LLMOS_PARENT_PID", "integer", "none", "The process ends when this one has ended; a supervisor sets it."),
    Row("LLMOS_PARENT_BIRTH", "text", "none", "When that process was started: another may have its number by now."),
    Row("CUDA_VISIBLE_DEVICES", "list", "all", "GPUs that a node agent and its replicas use."),
    Row("HF_ENDPOINT", "URL", "`https://huggingface.co`", "Hub from which `llmos model import hf:…` downloads."),
    Row("HF_TOKEN", "secret", "none", "Access token of that hub."),
    Row(
        "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY",
        "URL; hosts",
        "none",
        "Proxy of the command line to a remote gateway and the hub, and hosts asked without it; never loopback.",
    ),
    Row(
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "path",
        "certifi's",
        "Certificates that the command line trusts for `https://`.",
    ),
    Row(
        "LLMOS_CI_CACHE",
        "path",
        "`~/.cache/llmos-ci`",
        "Where `.ci/run` keeps its environment, and `make compose-test` its engine and images.",
    ),
    Row("LLMOS_DEMO", "`1`", "none", "`docker compose up` also imports SmolLM2 and deploys it."),
    Row(
        "LLMOS_REQUIRE_COMPOSE",
        "`1`",
        "none",
        "`make compose-test` fails where no containers can be run, instead of saying so.",
    ),
]
"""What is read elsewhere than in settings."""

_JOBS = [
    Row("LLMOS_JOB_GATEWAY_URL", "URL", "none", "The gateway that evaluations ask. `llmos up` sets it."),
    Row("LLMOS_JOB_API_KEY_FILE", "path", "none", "File with a key for it, of the scopes `inference` and `read`."),
]
"""What `devtools.jobs.settings` reads."""

_JOB_PROGRAM = [
    Row("LLMOS_BASE", "path", "none", "Folder with the files of the base version."),
    Row("LLMOS_DATA", "path", "none", "Folder with a folder for each dataset, which has its rows as JSON Lines."),
    Row("LLMOS_OUTPUT", "path", "none", "Folder for what the program makes."),
    Row("LLMOS_CHECKPOINTS", "path", "none", "Folder for what it saves to go on from, after a pause or a failure."),
]
"""What `devtools.jobs.command` sets."""


def service_rows(kind: type[ServiceSettings]) -> Iterator[Row]:
    """The variables that `kind` itself defines."""
    properties = kind.model_json_schema(by_alias=False)["properties"]
    for name, field in kind.model_fields.items():
        if name not in kind.__annotations__:
            continue
        variable = variable_name(kind, name)
        description, _, stated = (field.description or "").partition("Default: ")
        if _SECRET.search(variable):
            value, default = "secret", "none"
        else:
            value, default = _value(properties[name]), _default(field.default)
        if field.is_required():
            default = "required"
        yield Row(variable, value, stated.strip().rstrip(".") or default, " ".join(description.split()))


def command_line_rows() -> Iterator[Row]:
    """The variables that options of `llmos` are read from."""
    found: dict[str, tuple[OptionInfo, str, list[str]]] = {}
    for command, kind, option in _options(app, "llmos"):
        found.setdefault(str(option.envvar), (option, kind, []))[2].append(command)
    for variable, (option, kind, commands) in sorted(found.items()):
        description, _, default = (option.help or "").partition(" \\[default: ")
        only = f" Read by `{commands[0]}`." if len(commands) == 1 else ""
        value = "secret" if _SECRET.search(variable) else kind
        yield Row(variable, value, default.rstrip("]") or "none", f"{description.rstrip('.')}.{only}")


def _options(group: typer.Typer, path: str) -> Iterator[tuple[str, str, OptionInfo]]:
    """Command, kind of value and option of each option that has a variable."""
    for command in group.registered_commands:
        callback = command.callback
        assert callback is not None
        for parameter in inspect.signature(callback).parameters.values():
            kind, *marks = get_args(parameter.annotation)
            for option in marks:
                if isinstance(option, OptionInfo) and option.envvar:
                    yield f"{path} {command.name or callback.__name__}", _kind(kind), option
    for child in group.registered_groups:
        assert child.typer_instance is not None
        yield from _options(child.typer_instance, f"{path} {child.name}")


def _kind(annotation: object) -> str:
    return "path" if Path in get_args(annotation) else "text"


def _value(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    schema = schema.get("anyOf", [schema])[0]
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "$ref" in schema:
        return f"JSON: `{schema['$ref'].rpartition('/')[2]}`"
    pattern = schema.get("pattern")
    if pattern is not None:
        return "name" if NAME_PATTERN in pattern else f"text like `{pattern}`"
    kind = {"array": "JSON list", "string": schema.get("format", "text")}.get(schema["type"], schema["type"])
    bounds = {"exclusiveMinimum": "above", "minimum": "at least", "maximum": "at most"}
    return ", ".join([kind, *(f"{words} {schema[key]:g}" for key, words in bounds.items() if key in schema)])


def _default(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return f"`{value}` ({value >> 20} MiB)"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def tables() -> dict[str, tuple[str, list[Row]]]:
    """Title: introduction and rows."""
    of_services = {title: (intro, list(service_rows(kind))) for title, (intro, kind) in _SECTIONS.items()}
    return of_services | {
        "Command line": ("", list(command_line_rows())),
        "Jobs": ("A job inherits the node agent's environment, too.", _JOBS),
        "Program of a job": ("`llmos job run` sets these for the program that it runs.", _JOB_PROGRAM),
        "Other": ("", _OTHERS),
    }


def text() -> str:
    """The whole page."""
    parts = [_HEADER]
    for title, (introduction, rows) in tables().items():
        head = ["| variable | value | default | what it does |", "|---|---|---|---|"]
        lines = [*head, *map(str, rows)]
        parts.append("\n".join([f"## {title}", "", *([introduction] if introduction else []), *lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
