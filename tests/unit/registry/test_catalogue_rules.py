from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from services.registry import catalogue
from shared.contracts.manifest import Kind, Reference
from shared.contracts.registry import CatalogueRecord, VersionEntry
from shared.contracts.scheduler import Deployment
from shared.errors import Conflict, InvalidInput, NotFound

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def entry(version: int, digest: str | None = None) -> VersionEntry:
    return VersionEntry(version=version, digest=digest or f"{version:064x}", size=1, created_at=NOW)


def record(*versions: int, aliases: dict[str, int] | None = None, name: str = "smollm2") -> CatalogueRecord:
    return CatalogueRecord(
        name=name,
        next_version=max(versions, default=0) + 1,
        versions=tuple(entry(version) for version in versions),
        aliases=aliases or {},
    )


class Catalogue(RuleBasedStateMachine):
    """Any order of the rules, by registries that were killed between a reservation and its entry or not."""

    reserved = Bundle("reserved")

    def __init__(self) -> None:
        super().__init__()
        self.record = CatalogueRecord(name="smollm2")
        self.handed_out: list[int] = []
        self.entered: dict[int, str] = {}

    @rule(target=reserved)
    def reserve(self):
        self.record, number = catalogue.reserve(self.record)
        assert number not in self.handed_out
        self.handed_out.append(number)
        return number

    @rule(number=st.one_of(st.none(), reserved), content=st.integers(0, 5))
    def enter(self, number: int | None, content: int):
        if number is None or number in self.entered:
            return
        digest = f"{content:064x}"
        before = catalogue.with_digest(self.record, digest)
        self.record = catalogue.enter(self.record, entry(number, digest))
        winner = catalogue.with_digest(self.record, digest)
        assert winner is not None
        assert winner.version == (before.version if before else number)
        if not before:
            self.entered[number] = digest

    @rule(alias=st.sampled_from(["prod", "test", "a"]), number=st.integers(1, 6))
    def point(self, alias: str, number: int):
        there = {version.version for version in self.record.versions}
        try:
            self.record = catalogue.point(self.record, [alias], number)
        except NotFound:
            assert number not in there
        else:
            assert self.record.aliases[alias] == number
            assert catalogue.resolve(self.record, Reference(name="smollm2", alias=alias)).version == number

    @rule(alias=st.sampled_from(["prod", "test", "a"]))
    def unpoint(self, alias: str):
        existed = alias in self.record.aliases
        try:
            self.record = catalogue.remove_alias(self.record, alias)
        except NotFound:
            assert not existed
        else:
            assert existed
            assert alias not in self.record.aliases

    @rule(number=st.one_of(st.none(), st.integers(1, 6)))
    def delete(self, number: int | None):
        there = {version.version for version in self.record.versions}
        try:
            self.record = catalogue.delete(self.record, number)
        except NotFound:
            assert number not in there
        else:
            gone = there if number is None else {number}
            assert {version.version for version in self.record.versions} == there - gone

    @invariant()
    def whole(self):
        catalogue.check_integrity(self.record)

    @invariant()
    def a_number_means_one_manifest_for_ever(self):
        for version in self.record.versions:
            assert self.entered[version.version] == version.digest

    @invariant()
    def the_name_alone_means_the_newest(self):
        if self.record.versions:
            newest = catalogue.resolve(self.record, Reference(name="smollm2"))
            assert newest.version == max(version.version for version in self.record.versions)

    @invariant()
    def survives_its_encoding(self):
        assert CatalogueRecord.decode(self.record.encode()) == self.record


TestCatalogue = Catalogue.TestCase
TestCatalogue.settings = settings(max_examples=60, stateful_step_count=30, database=None)


def test_entering_is_idempotent_by_digest():
    once = catalogue.enter(catalogue.reserve(record(1))[0], entry(2))
    again = catalogue.enter(catalogue.reserve(once)[0], entry(3, entry(2).digest))
    assert again.versions == once.versions


def test_deleting_a_version_takes_its_aliases_along():
    left = catalogue.delete(record(1, 2, aliases={"old": 1, "prod": 2}), 2)
    assert left.aliases == {"old": 1}
    assert left.next_version == 3


def test_deleting_a_model_keeps_the_memory_of_its_numbers():
    gone = catalogue.delete(record(1, 2, aliases={"prod": 2}), None)
    assert gone == CatalogueRecord(name="smollm2", next_version=3)
    assert catalogue.reserve(gone)[1] == 3


@pytest.mark.parametrize(
    ("reference", "version"), [("smollm2", 3), ("smollm2:1", 1), ("smollm2@prod", 1), ("smollm2@next", 3)]
)
def test_references_resolve(reference, version):
    model = record(1, 3, aliases={"prod": 1, "next": 3})
    assert catalogue.resolve(model, catalogue.parse_reference(reference)).version == version


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("smollm2:2", "no version smollm2:2: newest first, there are 3, 1"),
        ("smollm2@prd", "no alias smollm2@prd: there are next, prod"),
    ],
)
def test_what_is_not_there_names_what_is(reference, message):
    model = record(1, 3, aliases={"next": 3, "prod": 1})
    with pytest.raises(NotFound, match=message):
        catalogue.resolve(model, catalogue.parse_reference(reference))


def test_an_unknown_model_names_those_that_exist():
    models = {
        "b": record(1, name="b"),
        "a": record(1, name="a"),
        "gone": CatalogueRecord(name="gone", next_version=4),
    }
    for name in ("x", "gone"):
        with pytest.raises(NotFound, match=f"^no model '{name}': there are a, b$"):
            catalogue.require_name(models, name, Kind.MODEL)
    with pytest.raises(NotFound, match=r"^no model 'x': there are none$"):
        catalogue.require_name({}, "x", Kind.MODEL)


def test_at_most_ten_names_are_listed_and_the_rest_counted():
    models = {f"m{number:02}": record(1, name=f"m{number:02}") for number in range(13)}
    with pytest.raises(NotFound, match=r"there are m00, .*, m09 and 3 more$"):
        catalogue.require_name(models, "x", Kind.MODEL)
    with pytest.raises(NotFound, match=r"newest first, there are 12, .*, 3 and 2 more$"):
        catalogue.require_version(record(*range(1, 13)), 99)


def test_what_a_deployment_uses_is_not_deleted():
    def deployment(name: str, model: str, version: int) -> Deployment:
        assert Deployment.EXAMPLE is not None
        return Deployment.EXAMPLE.model_copy(update={"name": name, "model": model, "version": version})

    deployments = [deployment("chat", "smollm2", 1), deployment("beta", "smollm2", 2), deployment("other", "b", 1)]
    catalogue.require_unused(deployments, "smollm2", 3)
    catalogue.require_unused(deployments, "c", None)
    with pytest.raises(Conflict, match=r"^smollm2:1 is in use: undeploy chat first$"):
        catalogue.require_unused(deployments, "smollm2", 1)
    with pytest.raises(Conflict, match=r"^smollm2 is in use: undeploy beta, chat first$"):
        catalogue.require_unused(deployments, "smollm2", None)


@pytest.mark.parametrize("text", ["", "Smollm2", "a:b", "a:0", "a@", "a:1@b", "../a", "a b", "a\n", "x" * 300])
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(InvalidInput, match="is not a model reference"):
        catalogue.parse_reference(text)


def test_a_model_has_a_limit_of_versions_that_its_record_can_hold():
    full = record(*range(1, catalogue.MAX_VERSIONS + 1))
    assert len(full.encode()) < 1 << 20
    with pytest.raises(Conflict, match="limit"):
        catalogue.reserve(full)
