import pytest
from pydantic import Field, ValidationError

from shared.errors import InvalidInput
from shared.service.settings import ServiceSettings, load_settings


class GatewaySettings(ServiceSettings):
    port: int = Field(default=8000, ge=0, le=65535, validation_alias="LLMOS_GATEWAY_PORT")
    store_url: str = Field(default="file:///tmp", pattern="^(file|s3)://", validation_alias="LLMOS_STORE_URL")


class NeedySettings(ServiceSettings):
    assignment: str = Field(validation_alias="LLMOS_REPLICA_ASSIGNMENT")


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LLMOS_NATS_URL", "nats://10.0.0.1:4222")
    monkeypatch.setenv("LLMOS_GATEWAY_PORT", "0")
    monkeypatch.setenv("LLMOS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("LLMOS_INSTANCE", "")
    settings = load_settings(GatewaySettings)
    assert (settings.nats_url, settings.port, settings.log_level) == ("nats://10.0.0.1:4222", 0, "debug")
    assert settings.instance == ""


def test_settings_may_be_given_by_field_name_in_code():
    assert GatewaySettings(port=1, drain_timeout=2).port == 1


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        GatewaySettings().port = 1


def test_every_wrong_variable_is_named_with_what_was_expected(monkeypatch):
    monkeypatch.setenv("LLMOS_GATEWAY_PORT", "http")
    monkeypatch.setenv("LLMOS_DRAIN_TIMEOUT", "-1")
    with pytest.raises(InvalidInput) as caught:
        load_settings(GatewaySettings)
    assert "LLMOS_GATEWAY_PORT='http': Input should be a valid integer" in caught.value.message
    assert "LLMOS_DRAIN_TIMEOUT='-1': Input should be greater than 0" in caught.value.message


def test_a_missing_variable_is_named(monkeypatch):
    monkeypatch.delenv("LLMOS_REPLICA_ASSIGNMENT", raising=False)
    with pytest.raises(InvalidInput, match="LLMOS_REPLICA_ASSIGNMENT is not set: Field required"):
        load_settings(NeedySettings)


def test_a_wrong_value_that_may_hold_a_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("LLMOS_STORE_URL", "ftp://user:hunter2@host")
    with pytest.raises(InvalidInput, match="LLMOS_STORE_URL: String should match") as caught:
        load_settings(GatewaySettings)
    assert "hunter2" not in caught.value.message


def test_an_instance_must_be_fit_for_subjects(monkeypatch):
    monkeypatch.setenv("LLMOS_INSTANCE", "node a.>")
    with pytest.raises(InvalidInput, match=r"LLMOS_INSTANCE='node a\.>': String should match"):
        load_settings(GatewaySettings)
