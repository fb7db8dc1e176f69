import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.make_configuration import TARGET, service_rows, tables, text
from shared.service.settings import ServiceSettings

ROOT = Path(__file__).parents[3]
NOT_CODE = {"tests", "docs", "build", "dist"}
CODE = {".py", ".c", ".h", ".yml", ".toml"}
CODE_NAMES = {"Dockerfile", "Makefile", "run"}
VARIABLE = re.compile(r"\bLLMOS_[A-Z0-9]+(?:_[A-Z0-9]+)*")
ON_THE_BUS = re.compile(r'^\w+_(?:BUCKET|STREAM) = "(LLMOS_\w+)"$', re.MULTILINE)
"""Names of buckets and streams, which look like variables."""


def code() -> Iterator[Path]:
    tops = [top for top in ROOT.iterdir() if top.name not in NOT_CODE and not top.name.startswith(".")]
    for top in [*tops, ROOT / ".ci"]:
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file() and (path.suffix in CODE or path.name in CODE_NAMES):
                yield path


def test_the_page_is_what_its_generator_writes():
    assert TARGET.read_text() == text(), "run `make docs`"


@pytest.mark.parametrize("title", sorted(tables()))
def test_every_variable_says_what_it_does(title):
    _, rows = tables()[title]
    assert rows
    assert [row.variable for row in rows if not row.description] == []


def test_every_variable_in_the_code_is_on_the_page():
    texts = {path: path.read_text() for path in code()}
    on_the_bus = {name for found in texts.values() for name in ON_THE_BUS.findall(found)}
    listed = {row.variable for _, rows in tables().values() for row in rows}
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, found in texts.items()
        for name in VARIABLE.findall(found)
        if name not in listed | on_the_bus
    }
    assert not missing
    read = {name for found in texts.values() for name in VARIABLE.findall(found)}
    assert {"LLMOS_KERNELS", "LLMOS_HOME", "LLMOS_CI_CACHE", "LLMOS_GATEWAY_PORT"} <= read, "code was not searched"
    assert {"LLMOS_MODELS", "LLMOS_TELEMETRY"} <= on_the_bus


def test_a_secret_is_never_shown():
    class Careless(ServiceSettings):
        s3_secret_key: str = "hunter2"
        """A secret with a default."""

    (row,) = service_rows(Careless)
    assert (row.variable, row.value, row.default) == ("LLMOS_S3_SECRET_KEY", "secret", "none")


def test_no_path_of_this_machine_is_shown():
    assert sys.prefix not in text()
    assert str(ROOT) not in text()
