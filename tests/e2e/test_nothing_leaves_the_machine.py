"""Import, deploy and chat talk to loopback only, and write nothing outside the home folder of LLMOS."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.privacy import OPT_OUTS
from tests.support.harness.embedded import Embedded
from tests.support.models.llama_files import write_llama

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STRACE = shutil.which("strace") or "strace"
WATCHED = "trace=connect,bind,sendto,sendmsg,sendmmsg"
LOOPBACK = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.)')
NAME_LOOKUP = re.compile(r"htons\(53\)|systemd/resolve")


def tracer(log: Path) -> tuple[str, ...]:
    """Runs the command that follows; `log` gets the calls that name an address, those of all children included."""
    options = ("-D", "-f", "--seccomp-bpf", "-qq", "-s", "0", "-e", "signal=none", "-e", WATCHED)
    return (STRACE, *options, "-A", "-o", str(log))


def leaves(call: str) -> bool:
    """Whether a system call names an address that is not of this machine, or asks for one by name."""
    return bool(NAME_LOOKUP.search(call)) or ("sa_family=AF_INET" in call and not LOOPBACK.search(call))


@pytest.fixture(scope="module")
def _strace(tmp_path_factory: pytest.TempPathFactory) -> None:
    log = tmp_path_factory.mktemp("strace") / "log"
    try:
        tried = subprocess.run([*tracer(log), "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("strace is not installed: what leaves the machine was not looked at")
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: what leaves the machine was not looked at: {tried.stderr.strip()}")


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        ('connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("20.42.65.92")}, 16) = 0', True),
        ('connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0', True),
        ('bind(3, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}, 16) = 0', True),
        ('connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0', True),
        ('connect(3, {sa_family=AF_INET, sin_port=htons(8000), sin_addr=inet_addr("127.0.0.1")}, 16) = 0', False),
        ('connect(3, {sa_family=AF_INET6, inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0', False),
        ('sendto(9, ""..., 4, 0, NULL, 0) = 4', False),
    ],
)
def test_a_call_that_leaves_is_seen(call, seen):
    assert leaves(call) is seen


@pytest.mark.usefixtures("_strace")
def test_import_deploy_and_chat_stay_on_the_machine(tmp_path):
    log, user, temporary = tmp_path / "calls", tmp_path / "user", tmp_path / "temporary"
    for folder in (user, temporary):
        folder.mkdir()
    environment = {"HOME": str(user), "TMPDIR": str(temporary), **dict.fromkeys(OPT_OUTS, "")}
    system = Embedded(tmp_path / "home", demo=False, env=environment, under=tracer(log))
    with system:
        imported = system.cli("model", "import", str(write_llama(tmp_path / "tiny.gguf")), "--name", "tiny")
        assert imported.returncode == 0, imported.stderr
        deployed = system.cli("deploy", "tiny", "--max-len", "64", "--slots", "2")
        assert deployed.returncode == 0, deployed.stderr
        chat = system.cli("chat", "tiny", "--max-tokens", "4", stdin="hello\n")
        assert chat.returncode == 0, chat.stderr
    calls = log.read_text().splitlines()
    assert any(f"htons({system.port})" in call for call in calls), "strace saw nothing"
    assert [call for call in calls if leaves(call)] == []
    assert [path for folder in (user, temporary) for path in folder.rglob("*")] == []
