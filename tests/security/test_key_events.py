"""Events of keys in a whole system, whose bus lets each service write what it needs and no more."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.harness.embedded import Embedded
from tests.support.harness.wait import eventually

CHAT = "/v1/chat/completions"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


EXPECTED = [("key.revoked", "laptop"), ("key.created", "laptop"), ("key.created", "bootstrap admin key")]


def test_a_key_is_refused_when_it_has_expired_and_the_last_admin_key_stays(tmp_path: Path) -> None:
    with Embedded(tmp_path, demo=False) as system:
        made = json.loads(system.cli("key", "create", "guest", "--expires", "2s", "--json").stdout)
        headers = {"Authorization": f"Bearer {made['key']}"}
        with httpx.Client(base_url=system.url, headers=headers) as guest:
            assert guest.get("/v1/models").status_code == 200
            asyncio.run(eventually(lambda: guest.get("/v1/models").status_code == 401, timeout=20))
            assert "expired at" in guest.get("/v1/models").json()["error"]["message"]

        def keys() -> list[dict[str, Any]]:
            listed: list[dict[str, Any]] = json.loads(system.cli("key", "list", "--json").stdout)
            return listed

        asyncio.run(eventually(lambda: all(key["last_used_at"] for key in keys()), timeout=30))
        admin = next(key["id"] for key in keys() if "admin" in key["scopes"])
        refused = system.cli("key", "revoke", admin)
        assert refused.returncode == 1
        assert "is the last admin key" in refused.stderr
        assert system.cli("key", "create", "second", "--scope", "admin").returncode == 0
        assert system.cli("key", "revoke", admin).returncode == 0


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
