"""Deployments as a file: what should run, whole, in YAML.

deployments:
- name: chat
model: smollm2:3        # name, name:3 or name@alias
replicas: 2
slots: 8                # any option of `llmos deploy`; what is not named has its default
prefix_cache: 512MiB
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from llmos.sizes import parse_size
from shared.contracts.scheduler import Deploy, Deployment
from shared.contracts.serving import ServingOptions
from shared.errors import InvalidInput

_OPTIONS = tuple(ServingOptions.model_fields)
_KEYS = ("name", "model", "replicas", *_OPTIONS)
MAX_BYTES = 1 << 20


def read_deployments(path: Path) -> list[Deploy]:
    """The deployments that a file asks for, each whole.

    Raises:
        InvalidInput: The file can't be read, or a deployment in it is wrong; names the place.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InvalidInput(f"{path} has more than {MAX_BYTES} bytes", param="file")
        document = yaml.safe_load(data)
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}", param="file") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        place = f"{path}, line {where.line + 1}" if where else str(path)
        raise InvalidInput(f"{place}: not YAML: {getattr(error, 'problem', None) or error}", param="file") from error
    if not isinstance(document, dict) or set(document) != {"deployments"}:
        raise InvalidInput(f"{path}: expected one key, deployments, with a list", param="file")
    items = document["deployments"] or []
    if not isinstance(items, list):
        raise InvalidInput(f"{path}: deployments is not a list", param="file")
    found = [_deploy(item, f"{path}: deployments.{index}") for index, item in enumerate(items)]
    names = [request.name for request in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"{path}: two deployments have the name {twice}", param="file")
    return found


def deployments_text(deployments: Iterable[Deployment]) -> str:
    """The file that asks for these deployments: `read_deployments` reads it back."""
    items = [_item(deployment) for deployment in deployments]
    text: str = yaml.safe_dump({"deployments": items}, sort_keys=False, allow_unicode=True)
    return text


def _item(deployment: Deployment) -> dict[str, Any]:
    asked = deployment.options if deployment.asked is None else deployment.asked
    return {
        "name": deployment.name,
        "model": f"{deployment.model}:{deployment.version}",
        "replicas": deployment.replicas,
        **asked.model_dump(mode="json", exclude_none=True),
    }


def _deploy(item: Any, place: str) -> Deploy:
    if not isinstance(item, dict):
        raise InvalidInput(f"{place} is not a table of keys", param="file")
    for key in item:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_KEYS)}"
            raise InvalidInput(f"{place}.{key} is unknown{hint}", param="file")
    for key in ("name", "model"):
        if not isinstance(item.get(key), str):
            raise InvalidInput(f"{place}.{key} is missing; expected a text", param="file")
    values = dict(item)
    for key, field in ServingOptions.model_fields.items():
        if field.json_schema_extra == {"unit": "bytes"} and isinstance(values.get(key), str):
            values[key] = _size(values[key], f"{place}.{key}")
    try:
        return Deploy(reference=values.pop("model"), reset=True, **{"replicas": 1, **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"{place}.{where} is {first['input']!r}: {first['msg']}", param="file") from error


def _size(text: str, place: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise InvalidInput(f"{place}: {error}", param="file") from error
