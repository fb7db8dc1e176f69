from pathlib import Path

import pytest

from services.inference.replica.settings import Settings
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import InvalidInput
from shared.service.settings import load_settings

ASSIGNMENT = ReplicaAssignment.EXAMPLE


@pytest.fixture
def environment(monkeypatch):
    for name, value in {
        "LLMOS_REPLICA_ASSIGNMENT": ASSIGNMENT.encode().decode(),
        "LLMOS_NODE_ID": "node-a",
        "LLMOS_REPLICA_FILES": "/cache/versions/ab",
        "LLMOS_INSTANCE": "somebody-else",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_replica_is_named_by_its_assignment(environment):
    settings = load_settings(Settings)
    assert settings.assignment == ASSIGNMENT
    assert settings.instance == ASSIGNMENT.id
    assert (settings.node_id, settings.files) == ("node-a", Path("/cache/versions/ab"))


@pytest.mark.parametrize("name", ["LLMOS_REPLICA_ASSIGNMENT", "LLMOS_NODE_ID", "LLMOS_REPLICA_FILES"])
def test_what_is_missing_is_named(environment, name):
    environment.delenv(name)
    with pytest.raises(InvalidInput, match=name):
        load_settings(Settings)
