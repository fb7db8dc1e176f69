from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.registry.garbage import Garbage, find_garbage
from shared.contracts.manifest import Kind
from shared.contracts.registry import CatalogueRecord, VersionEntry
from shared.storage.port import Stored

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD = Stored(size=10, modified=NOW - 2 * HOUR)
NEW = Stored(size=10, modified=NOW - HOUR / 2)


def record(*versions: int, next_version: int | None = None) -> CatalogueRecord:
    return CatalogueRecord(
        name="m",
        next_version=next_version or max(versions, default=0) + 1,
        versions=tuple(
            VersionEntry(version=number, digest=f"{number:064x}", size=1, created_at=NOW) for number in versions
        ),
    )


def test_old_blobs_that_nothing_refers_to_are_garbage():
    garbage = find_garbage({"used": OLD, "lost": OLD, "fresh": NEW}, {}, {}, {"used"}, now=NOW, grace=HOUR)
    assert garbage == Garbage(blobs=("lost",), manifests=(), size=10)


def test_manifests_of_numbers_that_never_became_versions_are_garbage():
    manifests = {(Kind.MODEL, "m", 1): OLD, (Kind.MODEL, "m", 2): OLD, (Kind.MODEL, "m", 3): NEW}
    garbage = find_garbage({}, manifests, {(Kind.MODEL, "m"): record(1, next_version=4)}, set(), now=NOW, grace=HOUR)
    assert garbage.manifests == ((Kind.MODEL, "m", 2),)


def test_a_lost_catalogue_makes_no_manifest_garbage():
    assert find_garbage({}, {(Kind.MODEL, "m", 1): OLD}, {}, set(), now=NOW, grace=HOUR).manifests == ()


def test_a_dataset_and_a_model_may_share_a_name_and_neither_is_the_others_garbage():
    manifests = {(Kind.MODEL, "m", 1): OLD, (Kind.DATASET, "m", 1): OLD, (Kind.DATASET, "m", 2): OLD}
    records = {(Kind.MODEL, "m"): record(1), (Kind.DATASET, "m"): record(2)}
    garbage = find_garbage({}, manifests, records, set(), now=NOW, grace=HOUR)
    assert garbage.manifests == ((Kind.DATASET, "m", 1),)


@given(
    blobs=st.dictionaries(st.sampled_from("abcdef"), st.timedeltas(timedelta(0), 3 * HOUR)),
    referenced=st.sets(st.sampled_from("abcdef")),
    versions=st.sets(st.integers(1, 5)),
    manifests=st.dictionaries(st.integers(1, 6), st.timedeltas(timedelta(0), 3 * HOUR)),
)
def test_what_is_used_or_young_is_never_garbage_and_all_else_is(blobs, referenced, versions, manifests):
    garbage = find_garbage(
        {digest: Stored(size=1, modified=NOW - age) for digest, age in blobs.items()},
        {(Kind.MODEL, "m", number): Stored(size=1, modified=NOW - age) for number, age in manifests.items()},
        {(Kind.MODEL, "m"): record(*sorted(versions), next_version=7)},
        referenced,
        now=NOW,
        grace=HOUR,
    )
    assert set(garbage.blobs) == {digest for digest, age in blobs.items() if digest not in referenced and age > HOUR}
    assert {number for _, _, number in garbage.manifests} == {
        number for number, age in manifests.items() if number not in versions and age > HOUR
    }
    assert garbage.size == len(garbage.blobs) + len(garbage.manifests)
