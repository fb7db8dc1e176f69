"""The bodies of the admin API that are not messages on the bus."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from shared.contracts.base import Contract
from shared.contracts.dataset import DatasetManifest
from shared.contracts.gateway import Scope
from shared.contracts.manifest import Manifest, Name
from shared.contracts.report import ReportManifest
from shared.printable import is_printable


def _shown(name: str) -> str:
    if not is_printable(name):
        raise ValueError("expected printable characters: a name is shown in terminals")
    return name


class NewModelVersion(Contract):
    """The body of `POST /models/{name}/versions`."""

    manifest: Manifest
    aliases: tuple[Name, ...] = ()


class NewDatasetVersion(Contract):
    """The body of `POST /datasets/{name}/versions`."""

    manifest: DatasetManifest
    aliases: tuple[Name, ...] = ()


class NewReportVersion(Contract):
    """The body of `POST /reports/{name}/versions`."""

    manifest: ReportManifest
    aliases: tuple[Name, ...] = ()


class AliasTarget(Contract):
    """The body of `PUT /models/{name}/aliases/{alias}`."""

    version: int = Field(ge=1)


class NewKey(Contract):
    """The body of `POST /keys`."""

    name: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_shown)]
    scopes: tuple[Scope, ...] = Field(default=(Scope.INFERENCE,), min_length=1)
    expires_in_s: float | None = Field(default=None, ge=1, le=100 * 365 * 86_400)
    """Seconds from now on after which it is refused; None: never."""
    may_store: bool = True
    """Whether responses and conversations of its requests may be stored."""


class CreatedKey(Contract):
    """A new key; `key` is shown this once."""

    id: Name
    name: str
    key: str
    scopes: tuple[Scope, ...]
    expires_at: datetime | None = None


class KeyView(Contract):
    """A key, without its hash."""

    id: Name
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    """To within an hour."""
    revoked: bool
    may_store: bool = True


class KeyList(Contract):
    """All keys, oldest first."""

    keys: tuple[KeyView, ...]


NewModelVersion.EXAMPLE = NewModelVersion(manifest=Manifest.EXAMPLE) if Manifest.EXAMPLE else None
NewDatasetVersion.EXAMPLE = NewDatasetVersion(manifest=DatasetManifest.EXAMPLE) if DatasetManifest.EXAMPLE else None
NewReportVersion.EXAMPLE = NewReportVersion(manifest=ReportManifest.EXAMPLE) if ReportManifest.EXAMPLE else None
AliasTarget.EXAMPLE = AliasTarget(version=3)
NewKey.EXAMPLE = NewKey(name="notebook", scopes=(Scope.INFERENCE,))
CreatedKey.EXAMPLE = CreatedKey(
    id="key-3f2a9c01b7de", name="notebook", key="llmos-" + "A" * 43, scopes=(Scope.INFERENCE,)
)
KeyView.EXAMPLE = KeyView(
    id="key-3f2a9c01b7de",
    name="notebook",
    scopes=(Scope.INFERENCE,),
    created_at=datetime.fromisoformat("2026-11-24T12:00:00+00:00"),
    revoked=False,
)
KeyList.EXAMPLE = KeyList(keys=(KeyView.EXAMPLE,))
