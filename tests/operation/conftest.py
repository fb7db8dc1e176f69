from collections.abc import Iterator

import pytest

from tests.support.harness.embedded import Embedded


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One running system with the demo model, shared by tests that leave it as it was."""
    with Embedded(tmp_path_factory.mktemp("demo"), demo=True) as system:
        yield system
