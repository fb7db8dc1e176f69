"""Who may do what: API keys and scopes. Pure; `services.gateway.keys` keeps the records.

A key is `llmos-` and 43 URL-safe characters (256 random bits). Only its SHA-256 is kept: a slow password hash would
add nothing to 256 random bits, and would cost every request.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from shared.contracts.gateway import ApiKey, Scope
from shared.errors import PermissionDenied, Unauthenticated

KEY_PATTERN = re.compile(r"^llmos-[A-Za-z0-9_-]{43}$")
SECRET_BYTES = 32
REVOKED_LISTED = timedelta(days=30)

OPEN_PATHS = ("/health", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
"""Served without a key."""

TRAIN_PATHS = (
    *("/llmos/v1/jobs", "/llmos/v1/datasets", "/llmos/v1/reports", "/llmos/v1/blobs"),
    *("/v1/files", "/v1/fine_tuning"),
)
"""What the scope `train` is for, with everything below."""

RPC_PATH = "/inference.GRPCInferenceService/"
"""What the methods of the gRPC service begin with."""
MODEL_PATHS = ("/v1/", "/v2", "/api/", "/rerank", "/tokenize", "/detokenize", "/tokenizer_info", RPC_PATH)
"""What the paths of the model APIs begin with."""


def make_key(secret: bytes) -> str:
    """The key for 32 random bytes."""
    if len(secret) != SECRET_BYTES:
        msg = f"a key is made of {SECRET_BYTES} random bytes"
        raise ValueError(msg)
    return "llmos-" + base64.urlsafe_b64encode(secret).rstrip(b"=").decode()


def hash_key(key: str) -> str:
    """What is kept of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def key_id(key: str) -> str:
    """The public id of a key, from its hash: the same key always has the same id."""
    return f"key-{hash_key(key)[:12]}"


def bearer(authorization: str | None) -> str | None:
    """The key in an `Authorization` header, or None."""
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    return credentials.strip() or None if scheme.lower() == "bearer" else None


def given_key(authorization: str | None, api_key: str | None) -> str | None:
    """The key of a request, from its headers `Authorization` and `X-Api-Key`; the first has precedence."""
    return bearer(authorization) or (api_key or "").strip() or None


def authenticate(key: str | None, records: Iterable[ApiKey], now: datetime) -> ApiKey:
    """The record of `key`.

    Every record is compared, each in constant time, so timing reveals nothing about them.

    Raises:
        Unauthenticated: There is no key, it is unknown, revoked or expired.
    """
    if key is None:
        raise Unauthenticated(
            "no API key given: send it as 'Authorization: Bearer llmos-…' (`llmos key create` makes one)"
        )
    hashed = hash_key(key)
    found: ApiKey | None = None
    for record in records:
        if hmac.compare_digest(record.hash, hashed):
            found = record
    if found is None:
        raise Unauthenticated("the API key is not known here; `llmos key list` shows which exist")
    if found.revoked:
        raise Unauthenticated(f"the API key {found.id} was revoked")
    if not usable(found, now):
        raise Unauthenticated(
            f"the API key {found.id} expired at {found.expires_at:%Y-%m-%d %H:%M} UTC; ask for another"
        )
    return found


def usable(record: ApiKey, now: datetime) -> bool:
    """Whether the key is neither revoked nor expired."""
    return not record.revoked and (record.expires_at is None or now < record.expires_at)


def is_listed(record: ApiKey, now: datetime) -> bool:
    """Whether lists show the key: one that was revoked leaves them after `REVOKED_LISTED`.

    Its record stays: the admin key of a file would be recorded again at the next start.
    """
    if not record.revoked:
        return True
    since = record.revoked_at or record.last_used_at or record.created_at
    return now - since < REVOKED_LISTED


def is_last_admin(record: ApiKey, records: Iterable[ApiKey], now: datetime) -> bool:
    """Whether nobody could administer without this key."""
    admins = [each.id for each in records if Scope.ADMIN in each.scopes and usable(each, now)]
    return admins == [record.id]


def scopes_for(method: str, path: str) -> tuple[Scope, ...]:
    """Which scopes, each alone, allow a request; empty for paths that need no key.

    `admin` allows everything; `read` also everything that only looks; `inference` all of the model APIs; `train`
    datasets, reports, uploads and jobs.
    """
    if path in OPEN_PATHS:
        return ()
    looks = method in ("GET", "HEAD", "OPTIONS")
    if any(path == prefix or path.startswith(f"{prefix}/") for prefix in TRAIN_PATHS):
        return (Scope.TRAIN, Scope.READ, Scope.ADMIN) if looks else (Scope.TRAIN, Scope.ADMIN)
    if path.startswith(MODEL_PATHS):
        return (Scope.INFERENCE, Scope.READ, Scope.ADMIN) if looks else (Scope.INFERENCE, Scope.ADMIN)
    return (Scope.READ, Scope.ADMIN) if looks else (Scope.ADMIN,)


def changes_state(method: str, path: str) -> bool:
    """Whether a request may change control state: no question to a model does, and none that only looks."""
    return method not in ("GET", "HEAD", "OPTIONS") and Scope.INFERENCE not in scopes_for(method, path)


def authorize(record: ApiKey, method: str, path: str) -> None:
    """Raise `PermissionDenied` unless the key has a scope that allows the request."""
    allowed = scopes_for(method, path)
    if allowed and not set(allowed) & set(record.scopes):
        needed = " or ".join(f"'{scope}'" for scope in allowed)
        has = ", ".join(record.scopes) or "none"
        raise PermissionDenied(f"{method} {path} needs the scope {needed}; the key {record.id} has: {has}")


def new_record(
    key: str,
    name: str,
    scopes: tuple[Scope, ...],
    now: datetime,
    *,
    expires_at: datetime | None = None,
    may_store: bool = True,
) -> ApiKey:
    """The record to keep for a new key."""
    return ApiKey(
        id=key_id(key),
        name=name,
        hash=hash_key(key),
        scopes=scopes,
        created_at=now,
        expires_at=expires_at,
        may_store=may_store,
    )
