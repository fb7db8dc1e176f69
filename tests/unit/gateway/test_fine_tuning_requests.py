"""Requests for fine-tuning become recipes that the trainer reads, names and resources."""

import pytest

from devtools.train.memory import estimate_memory, size_of
from devtools.train.recipe import parse_recipe
from devtools.train.recipe.recipe import read_recipe
from services.gateway.openai.fine_tuning.names import own_name
from services.gateway.openai.fine_tuning.recipe import ADAPTER_LEARNING_RATE, recipe_of
from services.gateway.openai.fine_tuning.resources import SHORTEST, training_resources
from services.gateway.openai.fine_tuning.views import status_of
from shared.contracts.fine_tuning import FineTuning, Hyperparameters
from shared.contracts.job import DeployState, JobSpec, JobState
from shared.contracts.manifest import Manifest, ManifestFile, is_name
from tests.support.factories.jobs import job_of

ASKED = FineTuning(model="smollm2", training_file="file-" + "0" * 24, seed=5)


@pytest.fixture
def recipe(tmp_path):
    def read(**fields):
        path = tmp_path / "recipe.toml"
        path.write_text(recipe_of(ASKED.model_copy(update=fields), max_len=512))
        return read_recipe(path)

    return read


def test_what_is_auto_is_the_recipes_default(recipe):
    default = parse_recipe({})
    found = recipe()
    assert (found.method, found.weights, found.seed, found.max_len) == ("sft", "adapter", 5, 512)
    assert (found.epochs, found.batch, found.learning_rate) == (default.epochs, default.batch, default.learning_rate)


def test_the_multiplier_is_one_of_the_trainers_own_rate(recipe):
    assert recipe().learning_rate == ADAPTER_LEARNING_RATE
    for multiplier in (1, 0.1, 3.0, 1e-9):
        found = recipe(hyperparameters=Hyperparameters(learning_rate_multiplier=multiplier))
        assert found.learning_rate == pytest.approx(ADAPTER_LEARNING_RATE * multiplier, rel=1e-9)


def test_every_hyperparameter_changes_the_recipe(recipe):
    found = recipe(method="dpo", hyperparameters=Hyperparameters(n_epochs=2, batch_size=3, beta=0.4))
    assert (found.method, found.epochs, found.batch, found.dpo.beta) == ("dpo", 2, 3, 0.4)
    assert recipe(method="dpo", hyperparameters=Hyperparameters(beta="auto")).dpo.beta == parse_recipe({}).dpo.beta


@pytest.mark.parametrize(
    ("base", "suffix", "name"),
    [
        ("smollm2", None, "ft-smollm2-3f2a77b1"),
        ("smollm2", "helper", "helper-3f2a77b1"),
        ("b" * 64, None, "ft-" + "b" * 52 + "-3f2a77b1"),
        ("smollm2", "a" * 54 + "-" + "b" * 9, "a" * 54 + "-3f2a77b1"),
    ],
)
def test_a_name_of_its_own_is_a_name(base, suffix, name):
    assert own_name(base, suffix, "3f2a77b1") == name
    assert is_name(name)


@pytest.mark.parametrize("quantization", ["Q4_1", "int8", "F32"])
@pytest.mark.parametrize("tokens", [10, 1024, 5000])
def test_resources_are_those_that_the_trainer_expects(tmp_path, quantization, tokens):
    assert Manifest.EXAMPLE is not None
    base = Manifest.EXAMPLE.model_copy(
        update={
            "files": (ManifestFile(path="model.onnx.data", digest="ab" * 32, size=98_000_000),),
            "lineage": Manifest.EXAMPLE.lineage.model_copy(update={"quantization": quantization}),
        }
    )
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_of(ASKED, max_len=max(tokens, SHORTEST)))
    assert parse_recipe({}).compute.micro_tokens == SHORTEST
    resources = training_resources(base, tokens)
    assert resources.memory == pytest.approx(estimate_memory(read_recipe(path), size_of(base)), rel=1e-6)
    assert resources.threads == 0, "it shares what no replica reserved"


@pytest.mark.parametrize(
    ("deployed", "status"),
    [
        (None, "succeeded"),
        (DeployState.PENDING, "running"),
        (DeployState.STARTING, "running"),
        (DeployState.WAITING, "succeeded"),
        (DeployState.READY, "succeeded"),
        (DeployState.FAILED, "failed"),
    ],
)
def test_a_job_succeeds_for_a_client_when_its_model_can_be_asked(deployed, status):
    spec = JobSpec(kind="train", deploy="helper")
    assert status_of(job_of(spec=spec, state=JobState.SUCCEEDED, deployed=deployed)) == status


def test_every_state_has_a_status():
    for state in JobState:
        assert status_of(job_of(state=state)) in {"queued", "running", "paused", "succeeded", "failed", "cancelled"}
