"""Events of keys in a whole system, whose bus lets each service write what it needs and no more."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.support.harness.embedded import Embedded
from tests.support.harness.wait import eventually

CHAT = "/v1/chat/completions"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


EXPECTED = [("key.revoked", "laptop"), ("key.created", "laptop"), ("key.created", "bootstrap admin key")]


def test_who_made_and_revoked_keys_is_listed_after_a_flood_of_refusals(tmp_path: Path) -> None:
    with Embedded(tmp_path, demo=False) as system:
        made = json.loads(system.cli("key", "create", "laptop", "--json").stdout)
        assert system.cli("key", "revoke", made["id"]).returncode == 0
        with httpx.Client(base_url=system.url) as stranger:
            assert {stranger.post(CHAT, content=b"{}").status_code for _ in range(100)} == {401}

        def events() -> list[tuple[str, str]]:
            found = json.loads(system.cli("key", "events", "--json").stdout)
            return [(event["kind"], event["detail"]["name"]) for event in found]

        asyncio.run(eventually(lambda: events() == EXPECTED, timeout=20))
        assert "laptop" in system.cli("key", "events").stdout
