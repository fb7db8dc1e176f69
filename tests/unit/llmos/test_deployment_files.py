"""Deployments as a file."""

import pytest

from llmos.deployment_changes import changes
from llmos.deployment_files import deployments_text, read_deployments
from shared.contracts.scheduler import Deploy, Deployment
from shared.contracts.serving import ReplicaOptions, ServingOptions
from shared.errors import InvalidInput

WHOLE = """
deployments:
- name: chat
  model: smollm2@prod
  replicas: 2
  slots: 8
  prefix_cache: 1.5MiB
- name: paused
  model: smollm2
  replicas: 0
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "all.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_asks_for_whole_deployments(file):
    chat, paused = read_deployments(file(WHOLE))
    assert chat == Deploy(
        reference="smollm2@prod", name="chat", replicas=2, slots=8, prefix_cache=3 << 19, reset=True
    )
    assert (paused.replicas, paused.slots, paused.reset) == (0, None, True)


def test_what_is_printed_is_what_is_read(file):
    asked = ServingOptions(slots=8, max_len=100, device="cpu")
    deployment = Deployment.EXAMPLE.model_copy(update={"asked": asked, "replicas": 3})
    (request,) = read_deployments(file(deployments_text([deployment])))
    assert request == Deploy(
        reference="smollm2:1", name="smollm2", replicas=3, reset=True, slots=8, max_len=100, device="cpu"
    )
    assert read_deployments(file(deployments_text([]))) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected one key, deployments"),
        ("deployments: 3", "deployments is not a list"),
        ("deployments: [3]", "deployments.0 is not a table"),
        ("a: [", "line 1: not YAML"),
        ("deployments: !!python/object/apply:os.system [ls]", "not YAML"),
        ("deployments: [{name: a}]", "deployments.0.model is missing"),
        ("deployments: [{name: a, model: m, slot: 3}]", "deployments.0.slot is unknown; did you mean 'slots'"),
        ("deployments: [{name: a, model: m, zzz: 3}]", "known: name, model"),
        ("deployments: [{name: a, model: m, slots: many}]", "deployments.0.slots is 'many'"),
        ("deployments: [{name: a, model: m, slots: 0}]", "deployments.0.slots is 0"),
        ("deployments: [{name: Up, model: m}]", "deployments.0.name is 'Up'"),
        ("deployments: [{name: a, model: m, prefix_cache: 1XB}]", "deployments.0.prefix_cache: '1XB' is not a size"),
        ("deployments: [{name: a, model: m}, {name: a, model: n}]", "two deployments have the name a"),
        ("deployments: [{name: a, model: m, dry_run: true}]", "deployments.0.dry_run is unknown"),
    ],
)
def test_a_wrong_file_is_refused_at_its_place(file, text, says):
    with pytest.raises(InvalidInput) as error:
        read_deployments(file(text))
    assert says in error.value.message


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InvalidInput, match="can't be read: No such file"):
        read_deployments(tmp_path / "none.yaml")


def test_changes_are_told_line_by_line():
    before = Deployment.EXAMPLE
    options = ReplicaOptions(max_len=4096, slots=8)
    after = before.model_copy(update={"version": 2, "options": options, "revision": 2})
    assert changes(before, after) == [("version", "smollm2:1", "smollm2:2"), ("slots", 16, 8)]
    assert changes(before, before) == []
