"""docker-compose.yml agrees with what it runs: settings, lock files, files. Drain times: `test_deadlines.py`."""

import pytest
from pydantic_settings import BaseSettings

from deploy.init_store import ACCESS
from deploy.make_secrets import ENV_SECRETS, complete
from devtools.jobs.settings import Settings as JobSettings
from services.gateway.settings import Settings as GatewaySettings
from services.inference.replica.settings import Settings as ReplicaSettings
from services.inference.settings import Settings as InferenceSettings
from services.monitor.settings import Settings as MonitorSettings
from services.registry.settings import Settings as RegistrySettings
from services.scheduler.settings import Settings as SchedulerSettings
from tests.support.harness.compose import ROOT, SERVICES, MissingVariable, compose, dotenv

READ_BY: dict[str, tuple[type[BaseSettings], ...]] = {
    "registry": (RegistrySettings,),
    "scheduler": (SchedulerSettings,),
    "inference": (InferenceSettings, ReplicaSettings, JobSettings),
    "inference-gpu": (InferenceSettings, ReplicaSettings, JobSettings),
    "gateway": (GatewaySettings,),
    "monitor": (MonitorSettings,),
}
SET_BY_THE_AGENT = {"LLMOS_REPLICA_ASSIGNMENT", "LLMOS_REPLICA_FILES", "LLMOS_NODE_ID", "LLMOS_INSTANCE"}
"""For each replica."""
OURS = tuple(READ_BY)
THIRD_PARTIES = ("nats", "minio", "jaeger", "prometheus", "grafana")


def variables(kind: type[BaseSettings]) -> dict[str, bool]:
    """The environment variables that a settings class reads, and whether it needs them."""
    return {
        str(field.validation_alias or f"LLMOS_{name.upper()}"): field.is_required()
        for name, field in kind.model_fields.items()
    }


@pytest.fixture
def document():
    return compose(dotenv(complete("")))


def test_every_service_is_there(document):
    expected = {*THIRD_PARTIES, "init-bus", "init-store", "demo", *OURS}
    assert document["services"].keys() == expected
    assert set(SERVICES) < set(OURS)


@pytest.mark.parametrize("service", OURS)
def test_every_variable_is_one_that_the_service_reads(document, service):
    read = {name for kind in READ_BY[service] for name in variables(kind)}
    given = {name for name in document["services"][service]["environment"] if name.startswith("LLMOS_")}
    assert given <= read


@pytest.mark.parametrize("service", OURS)
def test_every_variable_that_a_service_needs_is_given(document, service):
    needed = {name for kind in READ_BY[service] for name, required in variables(kind).items() if required}
    assert needed - SET_BY_THE_AGENT <= document["services"][service]["environment"].keys()


@pytest.mark.parametrize("service", OURS)
def test_every_service_is_built_from_its_own_lock(document, service):
    build = document["services"][service]["build"]
    assert (ROOT / build["dockerfile"]).is_file()
    assert (ROOT / "services" / build["args"]["SERVICE"] / "__main__.py").is_file()
    assert (ROOT / "requirements" / f"{build['args'].get('LOCK', build['args']['SERVICE'])}.lock").is_file()
    assert build["args"].get("LOCK", build["args"]["SERVICE"]) == service


def test_every_mounted_file_exists(document):
    mounts = [mount for service in document["services"].values() for mount in service.get("volumes", ())]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert files
    for file in files:
        assert (ROOT / file).exists(), file


def test_the_demo_is_there_only_when_asked_for(document):
    assert document["services"]["demo"]["scale"] == "0"
    asked = compose(dotenv(complete("")) | {"LLMOS_DEMO": "1"})["services"]["demo"]
    assert (asked["scale"], asked["build"]["args"]["DEMO"]) == ("1", "1")


def test_named_things_are_declared(document):
    for name, service in document["services"].items():
        mounts = [mount.split(":")[0] for mount in service.get("volumes", ()) if not mount.startswith("./")]
        assert set(mounts) <= document["volumes"].keys(), name
        assert set(service["networks"]) <= document["networks"].keys(), name
        assert set(service.get("secrets", ())) <= document["secrets"].keys(), name
        assert service.get("depends_on", {}).keys() <= document["services"].keys(), name


@pytest.mark.parametrize("secret", ENV_SECRETS)
def test_compose_says_what_to_do_when_a_secret_is_missing(secret):
    environment = dotenv(complete("")) | {secret: ""}
    with pytest.raises(MissingVariable, match=rf"{secret}: run 'python3 deploy/make_secrets.py' first"):
        compose(environment)


def test_only_loopback_ports_are_published(document):
    published = [port for service in document["services"].values() for port in service.get("ports", ())]
    assert sorted(published) == [
        "127.0.0.1:16686:16686",
        "127.0.0.1:3000:3000",
        "127.0.0.1:8000:8000",
        "127.0.0.1:8001:8001",
        "127.0.0.1:9090:9090",
    ]


def test_a_service_with_a_published_port_is_on_the_network_that_reaches_out(document):
    networks = document["networks"]
    assert [name for name, network in networks.items() if not network.get("internal")] == ["edge"]
    for name, service in document["services"].items():
        assert ("edge" in service["networks"]) == bool(service.get("ports")), name


@pytest.mark.parametrize("service", ["inference", "inference-gpu"])
def test_jobs_reach_the_gateway_with_a_key_of_their_own_and_keep_their_folders(document, service):
    shown, gateway = document["services"][service], document["services"]["gateway"]
    environment = shown["environment"]
    assert environment["LLMOS_JOB_GATEWAY_URL"] == f"http://gateway:{gateway['environment']['LLMOS_GATEWAY_PORT']}"
    assert set(shown["networks"]) & set(gateway["networks"])
    assert environment["LLMOS_JOB_API_KEY_FILE"] == f"/run/secrets/{shown['secrets'][0]}"
    volume = next(mount.split(":")[1] for mount in shown["volumes"] if mount.startswith(service))
    assert environment["LLMOS_INFERENCE_JOB_DIR"].startswith(f"{volume}/"), "/tmp is memory"


@pytest.mark.parametrize("service", [*OURS, "init-bus", "init-store", "demo", *THIRD_PARTIES])
def test_no_container_has_rights_that_it_does_not_need(document, service):
    shown = document["services"][service]
    assert shown["read_only"] is True
    assert shown["cap_drop"] == ["ALL"]
    assert shown["security_opt"] == ["no-new-privileges:true"]
    assert shown["pids_limit"] > 0
    assert shown["mem_limit"]
    assert "privileged" not in shown
    assert "cap_add" not in shown


@pytest.mark.parametrize("service", THIRD_PARTIES)
def test_an_image_of_a_third_party_can_be_pinned(service):
    pinned = {f"{service.upper()}_IMAGE": f"example/{service}:1@sha256:{'a' * 64}"}
    services = compose(dotenv(complete("")) | pinned)["services"]
    assert services[service]["image"] == pinned[f"{service.upper()}_IMAGE"]


@pytest.mark.parametrize("service", ["registry", "inference", "gateway"])
def test_a_service_has_its_own_user_of_the_store_and_not_root(document, service):
    environment = document["services"][service]["environment"]
    given = document["services"]["init-store"]["environment"]
    assert environment["LLMOS_S3_ACCESS_KEY"] == service
    assert environment["LLMOS_S3_SECRET_KEY"] == given[f"S3_SECRET_{service.upper()}"]
    root = given["LLMOS_S3_SECRET_KEY"]
    have = [name for name, shown in document["services"].items() if root in shown.get("environment", {}).values()]
    assert sorted(have) == ["init-bus", "init-store", "minio"]


def test_jobs_have_a_user_of_the_store_beside_that_of_their_node(document):
    environment = document["services"]["inference"]["environment"]
    given = document["services"]["init-store"]["environment"]
    assert environment["LLMOS_INFERENCE_JOB_S3_ACCESS_KEY"] == "jobs"
    assert environment["LLMOS_INFERENCE_JOB_S3_SECRET_KEY"] == given["S3_SECRET_JOBS"]


def test_every_user_of_the_store_is_made(document):
    given = document["services"]["init-store"]["environment"]
    assert {name for name in given if name.startswith("S3_SECRET_")} == {
        f"S3_SECRET_{user.upper()}" for user in ACCESS
    }


@pytest.mark.parametrize("service", OURS)
def test_a_service_starts_when_its_bus_is_healthy_and_its_bucket_made(document, service):
    needs = document["services"][service]["depends_on"]
    assert needs["init-bus"]["condition"] == "service_completed_successfully"
    assert document["services"]["init-bus"]["depends_on"]["nats"]["condition"] == "service_healthy"
    if "LLMOS_STORE_URL" in document["services"][service]["environment"]:
        assert needs["init-store"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("service", OURS)
def test_a_service_has_its_own_user_on_the_bus(document, service):
    environment = document["services"][service]["environment"]
    user = document["services"][service]["build"]["args"]["SERVICE"]
    password = document["services"]["nats"]["environment"][f"NATS_PASSWORD_{user.upper()}"]
    assert environment["LLMOS_NATS_URL"] == f"nats://{user}:{password}@nats:4222"
