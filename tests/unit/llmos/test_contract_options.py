"""`llmos deploy` takes every option of the contract."""

import pytest
import typer
from typer.testing import CliRunner

from llmos.cli.contract_options import with_options_of
from shared.contracts.serving import ServingOptions


@pytest.fixture
def deploy():
    app = typer.Typer()
    taken: list[ServingOptions] = []

    @app.command()
    @with_options_of(ServingOptions)
    def command(reference: str, *, wait: bool = True, **options: object) -> None:
        assert (reference, wait) == ("m", True)
        taken.append(ServingOptions(**options))

    def run(*arguments: str) -> ServingOptions | str:
        done = CliRunner().invoke(app, ["m", *arguments])
        return taken.pop() if done.exit_code == 0 else done.output

    return run


def test_every_field_is_an_option_with_the_contracts_default(deploy):
    assert deploy() == ServingOptions()
    given = ["--max-len", "9", "--slots", "2", "--threads", "3", "--device", "cpu"]
    given += ["--prefix-cache", "1.5MiB", "--draft-tokens", "0", "--max-wait", "2.5"]
    given += ["--max-batch", "64", "--max-delay-ms", "1.5", "--additional-properties", "open", "--share-cache"]
    assert {given[i].removeprefix("--").replace("-", "_") for i in range(0, len(given), 2)} == set(
        ServingOptions.model_fields
    )
    assert deploy(*given) == ServingOptions(
        max_len=9,
        slots=2,
        threads=3,
        device="cpu",
        prefix_cache=3 << 19,
        draft_tokens=0,
        max_wait=2.5,
        max_batch=64,
        max_delay_ms=1.5,
        additional_properties="open",
        share_cache=True,
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-len", "0"),
        ("--slots", "1025"),
        ("--threads", "x"),
        ("--device", "tpu"),
        ("--prefix-cache", "1XB"),
        ("--draft-tokens", "16"),
        ("--max-wait", "0"),
        ("--max-batch", "0"),
        ("--max-delay-ms", "1001"),
        ("--additional-properties", "ajar"),
    ],
)
def test_a_value_that_the_contract_does_not_take_is_refused_naming_the_option(deploy, option, value):
    assert option in deploy(option, value)


def test_help_of_each_option_is_its_fields_docstring():
    assert all(field.description for field in ServingOptions.model_fields.values())
