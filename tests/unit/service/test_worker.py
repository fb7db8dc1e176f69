import os

from shared.service.worker import read_message


def test_the_worker_ends_when_its_pipe_closes() -> None:
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert read_message(stream) is None
