"""A version or alias whose event can't be stored is not made."""

import pytest

from shared.bus.connect import connect
from shared.bus.rpc import call
from shared.contracts.events import EVENTS
from shared.contracts.registry import MODELS, CatalogueRecord, CreateModelVersion, SetAlias
from shared.errors import NotRecorded
from tests.support.factories.manifests import uploaded
from tests.support.harness.events import events_of


async def test_an_alias_moves_only_when_its_event_is_stored(nats, client, store, registry):
    manifest = await uploaded(store, {"model.onnx": b"one"})
    request = CreateModelVersion(name="smollm2", manifest=manifest, aliases=("prod",))
    await call(client, MODELS.create, request, timeout=10)
    to_test = SetAlias(name="smollm2", alias="test", version=1)
    owner = await connect(nats.url, name="owner", owner=True)
    try:
        await owner._jetstream.manager.delete_stream(EVENTS.name)
        with pytest.raises(NotRecorded, match=r"alias\.set of smollm2@test was not made"):
            await call(client, MODELS.set_alias, to_test, timeout=30)
        (entry,) = await client.kv(MODELS.bucket).entries()
        record = CatalogueRecord.decode(entry.value)
        assert record.aliases == {"prod": 1}
        await events_of(owner)  # the owner makes the stream
        after = await call(client, MODELS.set_alias, to_test, timeout=30)
        assert after.aliases == {"prod": 1, "test": 1}
        assert [event.kind for event in await events_of(owner)] == ["alias.set"]
    finally:
        await owner.drain()
