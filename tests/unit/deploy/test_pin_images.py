import pytest

from deploy.make_secrets import complete
from deploy.pin_images import PYTHON, images, set_variables, with_digest
from tests.support.harness.compose import compose, dotenv

DIGEST = "sha256:" + "a" * 64


def test_every_image_that_is_not_built_here_has_a_variable_that_names_it():
    found = images(compose(dotenv(complete(""))))
    assert found.keys() == {"NATS_IMAGE", "MINIO_IMAGE", "JAEGER_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE", PYTHON}
    pinned = {variable: f"{image.removeprefix('python:')}@{DIGEST}" for variable, image in found.items()}
    services = compose(dotenv(complete("")) | pinned)["services"]
    assert services["nats"]["image"] == f"{found['NATS_IMAGE']}@{DIGEST}"
    assert services["gateway"]["build"]["args"]["PYTHON"] == pinned[PYTHON]


@pytest.mark.parametrize(
    ("image", "known"),
    [
        ("nats:2.15.1-alpine", "nats"),
        ("prom/prometheus:v3", "prom/prometheus"),
        ("cr.example.com:5000/a/jaeger:2.21.0", "cr.example.com:5000/a/jaeger"),
        ("localhost:5000/nats", "localhost:5000/nats"),
    ],
)
def test_an_image_is_pinned_by_the_digest_of_its_own_repository(image, known):
    digests = [f"elsewhere/mirror@sha256:{'b' * 64}", f"{known}@{DIGEST}"]
    assert with_digest(image, digests) == f"{image}@{DIGEST}"


def test_no_digest_is_invented_for_an_image_that_was_made_here():
    with pytest.raises(ValueError, match="nats:2 has no digest: it was made here"):
        with_digest("nats:2", [])


def test_a_digest_of_another_registry_is_not_taken():
    with pytest.raises(ValueError, match="no digest"):
        with_digest("nats:2", [f"mirror.example.com/nats@{DIGEST}"])


def test_other_lines_stay():
    assert set_variables("# mine\nA=1\nNATS_IMAGE=x\n", {"NATS_IMAGE": "y"}) == "# mine\nA=1\nNATS_IMAGE=y\n"
