"""The TrainJob: valid by the schema of Kubeflow's API, and with a command that the trainer understands."""

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

ROOT = Path(__file__).parents[3]
DEFINITION = json.loads((ROOT / "tests/support/kubeflow/trainjob-v1alpha1.json").read_text(encoding="utf-8"))


def strict(schema: Any) -> Any:
    """A schema of Kubernetes as JSON Schema, in which a field that the API server would drop is an error."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: strict(one) for name, one in value.items()}
        elif not key.startswith("x-kubernetes-"):
            result[key] = strict(value)
    if "properties" in result and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


@pytest.fixture
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/kubernetes/trainjob.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = strict(DEFINITION["schema"])
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}  # the API server's own
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_it_is_valid(job, validator):
    validator.validate(job)
    assert job["apiVersion"] == f"{DEFINITION['group']}/{DEFINITION['version']}"
    assert job["kind"] == DEFINITION["kind"]
    patched = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert [one["name"] for one in patched] == ["node"], "the name in the runtime torch-distributed"


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (("spec",), "podTemplateOverrides", []),
        (("spec", "trainer"), "numProcPerNode", "auto"),
        (("spec", "trainer"), "replicas", 2),
        (("spec", "runtimeRef"), "name", ""),
        (("spec", "runtimePatches", 0), "manager", None),
    ],
)
def test_the_schema_finds_mistakes(job, validator, place, key, value):
    wrong = copy.deepcopy(job)
    at = wrong
    for part in place:
        at = at[part]
    at[key] = value
    with pytest.raises(ValidationError):
        validator.validate(wrong)


@pytest.mark.train
def test_its_command_is_that_of_a_training_with_several_processes(job):
    pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")
    launcher = importlib.import_module("torch.distributed.run")
    trainer = importlib.import_module("devtools.train.command")
    command = [*job["spec"]["trainer"]["command"], *job["spec"]["trainer"]["args"]]
    assert command[:4] == ["python", "-P", "-m", "torch.distributed.run"]
    launched = launcher.get_args_parser().parse_args(command[4:])
    worker = [launched.training_script, *launched.training_script_args]
    assert launched.no_python
    assert worker[:4] == ["python", "-P", "-m", "devtools.train"]
    options = trainer.options_of(trainer.parser_of().parse_args(worker[4:]))
    mount = Path("/run/llmos")
    places = [options.base, *options.data, options.validation, options.output]
    assert all(place.is_relative_to(mount) for place in places)
    (volume,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    containers = volume["template"]["spec"]["template"]["spec"]["containers"]
    assert containers[0]["volumeMounts"] == [{"name": "run", "mountPath": str(mount)}]
