"""A change changes what it names, can be looked at before, and can be taken back."""

import yaml

from tests.support.harness.embedded import Embedded


def said(done) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_change_is_shown_before_made_and_taken_back(demo: Embedded) -> None:
    deploy = ("deploy", "smollm2", "--name", "changing")
    try:
        assert "changing: new, smollm2:" in said(demo.cli(*deploy, "--slots", "2", "--max-len", "256"))
        shown = said(demo.cli(*deploy, "--slots", "3", "--dry-run"))
        assert "slots: 2 -> 3" in shown
        assert "unchanged" in said(demo.cli(*deploy, "--dry-run"))
        changed = said(demo.cli(*deploy, "--slots", "3"))
        assert "slots: 2 -> 3" in changed
        assert "max len" not in changed, "what is not named stays"
        assert "slots: 3 -> 2" in said(demo.cli("rollback", "changing"))
        options = demo.json("deployments", "--json")
        mine = next(item["deployment"] for item in options if item["deployment"]["name"] == "changing")
        assert (mine["options"]["slots"], mine["options"]["max_len"], mine["revision"]) == (2, 256, 3)
        overtaken = demo.cli(*deploy, "--slots", "4", "--if-revision", "1")
        assert overtaken.returncode == 1
        assert "revision 1 of changing was expected, and it has revision 3, made by" in overtaken.stderr
    finally:
        demo.cli("undeploy", "changing")


def test_what_can_never_fit_is_refused_and_not_done(demo: Embedded) -> None:
    done = demo.cli("deploy", "smollm2", "--name", "huge", "--replicas", "900", "--slots", "1024", "--no-wait")
    assert done.returncode == 1
    assert "replicas of huge would fit on no node" in done.stderr
    assert "huge" not in demo.cli("deployments").stdout


def test_a_paused_deployment_says_so_and_comes_back(demo: Embedded) -> None:
    deploy = ("deploy", "smollm2", "--name", "pausing", "--slots", "2", "--max-len", "256")
    try:
        said(demo.cli(*deploy))
        assert "replicas: 1 -> 0" in said(demo.cli("deploy", "smollm2", "--name", "pausing", "--replicas", "0"))
        refused = demo.cli("chat", "pausing", "Hi")
        assert refused.returncode == 1
        assert "scaled to 0 replicas" in refused.stderr
        assert "replicas: 0 -> 1" in said(demo.cli("rollback", "pausing"))
        assert said(demo.cli("chat", "pausing", "Hi"))
    finally:
        demo.cli("undeploy", "pausing")


def test_deployments_are_a_file_that_is_printed_compared_and_applied(demo: Embedded, tmp_path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(said(demo.cli("deployments", "--yaml")))
    assert demo.cli("diff", "-f", str(file)).returncode == 0, "what was printed is what is there"
    document = yaml.safe_load(file.read_text())
    document["deployments"].append(
        {"name": "applied", "model": "smollm2", "slots": 2, "max_len": 256, "prefix_cache": "1MiB"}
    )
    file.write_text(yaml.safe_dump(document))
    try:
        differs = demo.cli("diff", "-f", str(file))
        assert (differs.returncode, "applied: new" in differs.stdout) == (1, True)
        assert "applied: new" in said(demo.cli("apply", "-f", str(file)))
        assert "applied: unchanged" in said(demo.cli("apply", "-f", str(file)))
        document["deployments"].pop()
        file.write_text(yaml.safe_dump(document))
        assert "--prune undeploys it" in demo.cli("apply", "-f", str(file)).stderr
        assert "applied: undeployed" in said(demo.cli("apply", "-f", str(file), "--prune"))
        document["deployments"].append({"name": "bad", "model": "nothing"})
        file.write_text(yaml.safe_dump(document))
        assert demo.cli("apply", "-f", str(file)).returncode == 1
        assert "bad" not in demo.cli("deployments").stdout
    finally:
        demo.cli("undeploy", "applied")
