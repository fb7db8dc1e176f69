import stat

import psutil

from deploy.make_secrets import ENV_SECRETS, MEMORY_LIMIT, complete, make
from services.gateway.keys import read_key
from tests.support.harness.compose import dotenv


def test_all_secrets_are_made_and_differ():
    made = dotenv(complete(""))
    assert made.keys() == {*ENV_SECRETS, MEMORY_LIMIT}
    assert len({made[name] for name in ENV_SECRETS}) == len(ENV_SECRETS)
    assert dotenv(complete("")) != made


def test_what_a_person_wrote_stays():
    text = "# mine\nS3_ACCESS_KEY=given\nGATEWAY_PORT=9000\nS3_SECRET_KEY=\n"
    completed = complete(text)
    assert completed.startswith("# mine\nS3_ACCESS_KEY=given\nGATEWAY_PORT=9000\n")
    assert dotenv(completed)["S3_SECRET_KEY"]
    assert completed.count("S3_SECRET_KEY=") == 1


def test_a_node_gets_a_limit_below_the_machines_memory():
    total = psutil.virtual_memory().total
    assert total * 0.85 < int(dotenv(complete(""))[MEMORY_LIMIT]) < total
    assert dotenv(complete("INFERENCE_MEMORY_LIMIT=8g\n"))[MEMORY_LIMIT] == "8g"


def test_a_second_run_changes_nothing(tmp_path):
    make(tmp_path)
    before = (tmp_path / ".env").read_text(), (tmp_path / "deploy/secrets/admin-key").read_text()
    make(tmp_path)
    assert ((tmp_path / ".env").read_text(), (tmp_path / "deploy/secrets/admin-key").read_text()) == before


def test_nobody_else_can_read_them(tmp_path):
    make(tmp_path)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "deploy/secrets").stat().st_mode) == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "deploy"]


def test_the_containers_user_can_read_the_mounted_key(tmp_path):
    make(tmp_path)
    assert stat.S_IMODE((tmp_path / "deploy/secrets/admin-key").stat().st_mode) == 0o644


def test_the_key_of_jobs_is_a_persons_to_make_and_stays(tmp_path):
    make(tmp_path)
    key = tmp_path / "deploy/secrets/job-key"
    assert key.read_text() == ""
    assert stat.S_IMODE(key.stat().st_mode) == 0o644
    key.write_text("llmos-given\n")
    make(tmp_path)
    assert key.read_text() == "llmos-given\n"


def test_the_admin_key_is_one_that_the_gateway_takes(tmp_path):
    make(tmp_path)
    assert read_key(tmp_path / "deploy/secrets/admin-key").startswith("llmos-")
