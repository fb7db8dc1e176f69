import re

from tests.support.harness.compose import ROOT, SERVICES, exec_form, instructions


def last_stage() -> list[tuple[str, str]]:
    """The instructions of the image that is shipped."""
    found = instructions()
    starts = [index for index, (name, _) in enumerate(found) if name == "FROM"]
    assert len(starts) > 1, "the build must not be in the image"
    return found[starts[-1] :]


def test_what_is_copied_exists_and_is_not_ignored():
    copied = [rest for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    assert copied
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for rest in copied:
        for source in rest.split()[:-1]:
            for service in SERVICES:
                path = re.sub(r"\$\{(SERVICE|LOCK)\}", service, source)
                assert (ROOT / path).exists(), path
                assert path.split("/")[0] in allowed, path


def test_all_that_git_does_not_know_stays_out_of_the_build():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert not {"!.env", "!deploy", "!.git"} & set(lines)


def test_the_hosts_library_of_operators_stays_out_of_the_build():
    assert (ROOT / ".dockerignore").read_text().splitlines()[-1] == "**/*.so"


def test_the_tools_to_build_with_are_one_layer_for_all_images():
    stage = instructions()[1:]
    tools = next(at for at, (name, rest) in enumerate(stage) if name == "RUN" and "build.lock" in rest)
    before = [(name, rest) for name, rest in stage[:tools] if name == "ARG" or "SERVICE" in rest or "LOCK" in rest]
    assert [name for name, _ in stage[: tools + 1]].count("FROM") == 1
    assert not before


def test_dependencies_are_installed_by_hash_from_the_services_lock():
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip wheel" in rest]
    assert any("--require-hashes" in rest and "requirements/${LOCK}.lock" in rest for rest in installs)


def test_the_process_is_not_root_and_gets_sigterm_itself():
    assert [rest for name, rest in last_stage() if name == "USER"][-1] not in {"root", "0"}
    argv = exec_form("ENTRYPOINT")
    assert argv[:2] == ["/bin/sh", "-c"]
    assert argv[2].startswith("exec ")


def test_the_image_has_no_tools_to_install_with():
    assert any(name == "RUN" and "pip uninstall" in rest for name, rest in last_stage())
    assert any("--without-pip" in rest for name, rest in instructions() if name == "RUN")


def test_the_health_check_reads_the_file_that_the_service_writes():
    assert exec_form("HEALTHCHECK") == ["python", "-P", "-m", "shared.service.health_file"]
    assert any("LLMOS_HEALTH_FILE=/tmp/" in rest for name, rest in last_stage() if name == "ENV")
