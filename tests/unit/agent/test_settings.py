import pytest

from services.inference.settings import MEMORY_SHARE, Settings, available_memory, host_node_id, usable_threads


@pytest.fixture(autouse=True)
def _store(monkeypatch):
    monkeypatch.setenv("LLMOS_STORE_URL", "file:///store")
    monkeypatch.setenv("LLMOS_CACHE_DIR", "/cache")


def test_the_secret_of_the_store_and_the_password_of_replicas_are_not_printed(monkeypatch):
    monkeypatch.setenv("LLMOS_S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("LLMOS_INFERENCE_REPLICA_NATS_URL", "nats://replica:hunter3@h")
    assert "hunter" not in repr(Settings())


def test_the_host_name_becomes_a_valid_node_id(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Annas_MacBook-Pro.local")
    assert host_node_id() == "annas-macbook-pro"
    monkeypatch.setattr("socket.gethostname", lambda: "___")
    assert host_node_id() == "node"


def test_a_node_offers_memory_and_threads_of_its_machine_by_default(monkeypatch):
    monkeypatch.setenv("LLMOS_INFERENCE_THREADS", "3")
    settings = Settings()
    assert settings.threads == 3
    assert settings.memory > 0


def test_the_replica_command_is_read_as_a_list(monkeypatch):
    monkeypatch.setenv("LLMOS_INFERENCE_REPLICA_COMMAND", '["python", "x.py"]')
    assert Settings().replica_command == ("python", "x.py")


@pytest.mark.parametrize(
    ("agent", "replica", "expected"), [(40.0, 30.0, 30.0), (20.0, 30.0, 13.0), (40.0, 5.0, 5.0), (1.0, 30.0, 0.1)]
)
def test_replicas_drain_within_the_agents_own_drain(agent, replica, expected):
    settings = Settings(drain_timeout=agent, replica_drain_timeout=replica)
    assert settings.replica_drain == expected
    assert Settings().replica_drain == Settings().replica_drain_timeout, "the defaults fit one another"


def test_in_a_container_the_containers_limit_counts(tmp_path):
    machine = available_memory(tmp_path)
    assert machine > 200 << 20
    (tmp_path / "memory.max").write_text("200000000\n")
    (tmp_path / "memory.current").write_text("130000000\n")
    (tmp_path / "memory.stat").write_text("anon 50000000\nactive_file 30000000\ninactive_file 50000000\n")
    assert available_memory(tmp_path) == int(150_000_000 * MEMORY_SHARE)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 200 << 20


def test_in_a_container_of_control_groups_1_its_limit_counts_too(tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("200000000\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("130000000\n")
    (tmp_path / "memory/memory.stat").write_text("active_file 30000000\ninactive_file 50000000\n")
    assert available_memory(tmp_path) == int(150_000_000 * MEMORY_SHARE)


def test_a_containers_share_of_time_bounds_its_threads(tmp_path):
    machine = usable_threads(tmp_path)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_threads(tmp_path) == machine
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert usable_threads(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert usable_threads(tmp_path) == machine
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("150000\n")
    assert usable_threads(tmp_path) == 1


def test_an_id_counts_as_given_only_when_a_person_set_it(monkeypatch):
    assert Settings().given_node_id is None
    monkeypatch.setenv("LLMOS_INFERENCE_NODE_ID", "left")
    assert Settings().given_node_id == "left"
