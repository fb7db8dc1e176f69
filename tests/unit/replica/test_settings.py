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
        "LLMOS_STORE_URL": "file:///store",
        "LLMOS_CACHE_DIR": "/cache",
        "LLMOS_INSTANCE": "somebody-else",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_replica_is_named_by_its_assignment(environment):
    settings = load_settings(Settings)
    assert settings.assignment == ASSIGNMENT
    assert settings.instance == ASSIGNMENT.id
    assert (settings.node_id, settings.cache_dir) == ("node-a", Path("/cache"))


@pytest.mark.parametrize("name", ["LLMOS_REPLICA_ASSIGNMENT", "LLMOS_NODE_ID", "LLMOS_STORE_URL", "LLMOS_CACHE_DIR"])
def test_what_is_missing_is_named(environment, name):
    environment.delenv(name)
    with pytest.raises(InvalidInput, match=name):
        load_settings(Settings)


def test_the_secret_of_the_store_is_not_printed(environment):
    environment.setenv("LLMOS_S3_SECRET_KEY", "hunter2")
    assert "hunter2" not in repr(load_settings(Settings))
