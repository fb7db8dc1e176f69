import json
import re

import pytest

from deploy.make_secrets import complete
from tests.support.harness.compose import ROOT, SERVICES, compose, dotenv, exec_form, instructions


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
    found = instructions()
    stage = found[[name for name, _ in found].index("FROM") :]
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
    assert last_stage()[0] == ("FROM", "run")
    assert any(name == "RUN" and "pip uninstall" in rest for name, rest in stages()["run"])
    assert any("--without-pip" in rest for name, rest in instructions() if name == "RUN")


def test_what_all_images_run_on_is_one_layer():
    assert not any("SERVICE" in rest for _, rest in stages()["run"])


def test_volumes_are_made_empty():
    (layer,) = (rest for name, rest in stages()["run"] if name == "RUN")
    assert "--no-create-home" in layer, "useradd would put the files of /etc/skel there"
    assert "install --directory --owner=llmos" in layer


def test_the_health_check_reads_the_file_that_the_service_writes():
    assert exec_form("HEALTHCHECK") == ["python", "-P", "-m", "shared.service.health_file"]
    assert any("LLMOS_HEALTH_FILE=/tmp/" in rest for name, rest in last_stage() if name == "ENV")


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, by its name; the shipped image is ""."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = "before"
    for instruction, rest in instructions():
        if instruction == "FROM":
            name = rest.partition(" AS ")[2]
        found.setdefault(name, []).append((instruction, rest))
    return found


def test_the_environment_that_serves_has_no_code_and_no_libraries_of_jobs():
    build = " ".join(rest for _, rest in stages()["build"])
    assert "/opt/llmos" in build
    assert "devtools" not in build
    assert "torch" not in build


@pytest.mark.parametrize(("jobs", "parent"), [("none", "tools"), ("tools", "tools"), ("train", "jobs-tools")])
def test_every_choice_of_jobs_is_a_stage_that_makes_their_environment(jobs, parent):
    begin, *stage = stages()[f"jobs-{jobs}"]
    assert begin[1].startswith(f"{parent} ")
    assert any("/opt/jobs" in rest for name, rest in stage if name == "RUN")


def test_an_image_without_a_choice_has_nothing_for_jobs_and_the_chosen_environment_is_copied():
    found = stages()
    assert ("ARG", "JOBS=none") in found["before"]
    assert found["jobs"] == [("FROM", "jobs-${JOBS} AS jobs")]
    assert ("COPY", "--from=jobs /opt/jobs /opt/jobs") in found[""]


def test_what_jobs_need_is_installed_by_hash_but_for_pytorch_which_is_the_build_for_processors():
    tools, train = (" ".join(rest for _, rest in stages()[f"jobs-{name}"]) for name in ("tools", "train"))
    assert "pip wheel --require-hashes" in tools
    assert "-r requirements/jobs.lock" in tools
    assert "--require-hashes --no-deps -r requirements/train.lock" in train
    assert 'TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"' in train


@pytest.mark.parametrize("service", ["inference", "inference-gpu"])
def test_a_node_is_built_with_tools_or_what_is_asked_for_and_starts_jobs_with_them(service):
    for asked, built in (("", "tools"), ("train", "train"), ("none", "none")):
        shown = compose({**dotenv(complete("")), "INFERENCE_JOBS": asked})["services"][service]
        assert shown["build"]["args"]["JOBS"] == built
    command = json.loads(shown["environment"]["LLMOS_INFERENCE_JOB_COMMAND"])
    assert command == ["/opt/jobs/bin/python", "-P", "-m", "devtools.jobs.run"]


def test_no_other_service_has_jobs():
    services = compose(dotenv(complete("")))["services"]
    args = {name: shown["build"]["args"] for name, shown in services.items() if "build" in shown}
    assert {name for name in args if "JOBS" in args[name]} == {"inference", "inference-gpu"}
