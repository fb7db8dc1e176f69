"""Fixtures of the tests of training."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Tests share the processor, and their models are too small for several threads."""
    torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")
    torch.set_num_threads(1)


@pytest.fixture
def file_size_limit():
    """Inside, no file may have more bytes: writing fails as on a full disk (EFBIG, and Python ignores SIGXFSZ)."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
