"""Keys and scopes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import auth
from shared.contracts.gateway import ApiKey, Scope
from shared.errors import PermissionDenied, Unauthenticated

NOW = datetime(2026, 11, 24, tzinfo=UTC)
KEY = auth.make_key(b"k" * 32)


def record(*scopes: Scope, revoked: bool = False) -> ApiKey:
    return auth.new_record(KEY, "n", scopes, NOW).model_copy(update={"revoked": revoked})


@given(st.binary(min_size=32, max_size=32))
def test_a_key_has_its_form_and_its_record_does_not_hold_it(secret: bytes) -> None:
    key = auth.make_key(secret)
    assert auth.KEY_PATTERN.match(key)
    record = auth.new_record(key, "n", (Scope.READ,), NOW)
    assert key not in record.model_dump_json()
    assert auth.authenticate(key, [record], NOW) == record


def test_short_secrets_make_no_key() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        auth.make_key(b"short")


@pytest.mark.parametrize("given_key", [None, "", "llmos-wrong", KEY + "x", KEY.upper()])
def test_no_key_and_wrong_keys_are_refused(given_key: str | None) -> None:
    with pytest.raises(Unauthenticated):
        auth.authenticate(given_key, [record(Scope.ADMIN)], NOW)


def test_a_revoked_key_is_refused_by_name() -> None:
    with pytest.raises(Unauthenticated, match=r"key-[0-9a-f]{12} was revoked"):
        auth.authenticate(KEY, [record(Scope.ADMIN, revoked=True)], NOW)


def test_an_expired_key_is_refused_by_name_from_its_time_on() -> None:
    expiring = auth.new_record(KEY, "n", (Scope.ADMIN,), NOW, expires_at=NOW + timedelta(days=1))
    assert auth.authenticate(KEY, [expiring], NOW) == expiring
    with pytest.raises(Unauthenticated, match=r"key-[0-9a-f]{12} expired at 2026-11-25 00:00 UTC"):
        auth.authenticate(KEY, [expiring], NOW + timedelta(days=1))


def test_a_revoked_key_leaves_lists_after_30_days_and_its_record_is_refused_for_ever() -> None:
    now = NOW + timedelta(days=100)
    revoked = record(Scope.ADMIN, revoked=True)
    assert auth.is_listed(record(Scope.ADMIN), now)
    for days, listed in ((0, True), (29.9, True), (30, False), (90, False)):
        at = now - timedelta(days=days)
        assert auth.is_listed(revoked.model_copy(update={"revoked_at": at}), now) is listed
    # By an LLMOS that did not note when: the last that is known of it.
    assert auth.is_listed(revoked.model_copy(update={"last_used_at": now - timedelta(days=2)}), now)
    assert not auth.is_listed(revoked, now)


def test_the_last_admin_key_is_the_one_that_alone_can_be_used() -> None:
    admin, reader = record(Scope.ADMIN), record(Scope.READ).model_copy(update={"id": "key-reader"})
    other = admin.model_copy(update={"id": "key-other"})
    assert auth.is_last_admin(admin, [admin, reader], NOW)
    assert not auth.is_last_admin(reader, [admin, reader], NOW)
    assert not auth.is_last_admin(admin, [admin, other], NOW)
    assert auth.is_last_admin(admin, [admin, other.model_copy(update={"revoked": True})], NOW)
    assert auth.is_last_admin(admin, [admin, other.model_copy(update={"expires_at": NOW})], NOW)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (f"Bearer {KEY}", KEY),
        (f"bearer   {KEY} ", KEY),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
        (None, None),
    ],
)
def test_the_key_is_read_from_a_bearer_header(header: str | None, key: str | None) -> None:
    assert auth.bearer(header) == key


@pytest.mark.parametrize(
    ("authorization", "api_key", "key"),
    [
        (f"Bearer {KEY}", None, KEY),
        (f"Bearer {KEY}", "other", KEY),
        (None, KEY, KEY),
        ("Basic abc", f" {KEY} ", KEY),
        (None, " ", None),
        (None, None, None),
    ],
)
def test_the_bearer_has_precedence_over_x_api_key(
    authorization: str | None, api_key: str | None, key: str | None
) -> None:
    assert auth.given_key(authorization, api_key) == key


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/chat/completions", {Scope.INFERENCE, Scope.ADMIN}),
        ("GET", "/v1/models", {Scope.INFERENCE, Scope.READ, Scope.ADMIN}),
        ("POST", "/tokenize", {Scope.INFERENCE, Scope.ADMIN}),
        ("POST", "/detokenize", {Scope.INFERENCE, Scope.ADMIN}),
        ("GET", "/tokenizer_info", {Scope.INFERENCE, Scope.READ, Scope.ADMIN}),
        ("GET", "/llmos/v1/nodes", {Scope.READ, Scope.ADMIN}),
        ("HEAD", "/llmos/v1/blobs/x", {Scope.TRAIN, Scope.READ, Scope.ADMIN}),
        ("PUT", "/llmos/v1/blobs/x", {Scope.TRAIN, Scope.ADMIN}),
        ("POST", "/llmos/v1/jobs", {Scope.TRAIN, Scope.ADMIN}),
        ("POST", "/llmos/v1/datasets/d/versions", {Scope.TRAIN, Scope.ADMIN}),
        ("POST", "/llmos/v1/models/m/versions", {Scope.ADMIN}),
        ("POST", "/llmos/v1/jobsx", {Scope.ADMIN}),
        ("POST", "/v1/fine_tuning/jobs", {Scope.TRAIN, Scope.ADMIN}),
        ("POST", "/llmos/v1/deployments", {Scope.ADMIN}),
        ("DELETE", "/llmos/v1/keys/k", {Scope.ADMIN}),
        ("POST", "/rerank", {Scope.INFERENCE, Scope.ADMIN}),
        ("POST", "/v2/rerank", {Scope.INFERENCE, Scope.ADMIN}),
        ("GET", "/metrics", {Scope.READ, Scope.ADMIN}),
    ],
)
def test_each_scope_allows_what_it_says(method: str, path: str, allowed: set[Scope]) -> None:
    for scope in Scope:
        if scope in allowed:
            auth.authorize(record(scope), method, path)
        else:
            with pytest.raises(PermissionDenied, match="needs the scope"):
                auth.authorize(record(scope), method, path)


def test_health_needs_no_key_and_everything_else_does() -> None:
    assert auth.scopes_for("GET", "/health") == ()
    assert auth.scopes_for("GET", "/healthz") == ()
    assert auth.scopes_for("GET", "/readyz") == ()
    assert auth.scopes_for("GET", "/healthz/../llmos/v1/keys")
    assert auth.scopes_for("GET", "/anything")
