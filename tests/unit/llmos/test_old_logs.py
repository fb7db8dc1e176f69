import os

from llmos.embedded.logs import LOG_DAYS, remove_old_logs

NOW = 1_800_000_000.0


def test_logs_of_replicas_that_are_long_gone_are_removed_and_no_others(tmp_path):
    old, new = NOW - (LOG_DAYS + 1) * 86400, NOW - 86400
    ages = {
        "replica-chat-1-aaaaaa.log": old,
        "replica-chat-1-aaaaaa.log.1": old,
        "replica-chat-1-bbbbbb.log": new,
        "gateway.log": old,
        "launcher.log": old,
    }
    for name, age in ages.items():
        (tmp_path / name).write_text("a line\n")
        os.utime(tmp_path / name, (age, age))
    remove_old_logs(tmp_path, NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gateway.log",
        "launcher.log",
        "replica-chat-1-bbbbbb.log",
    ]
