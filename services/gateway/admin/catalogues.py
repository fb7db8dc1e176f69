"""The admin routes of the registry's catalogues: the same for models, datasets and reports."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from services.gateway.admin.contracts import AliasTarget, NewDatasetVersion, NewModelVersion, NewReportVersion
from services.gateway.admin.operations import AdminOperation, Call
from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.manifest import Kind
from shared.contracts.registry import (
    CATALOGUES,
    AnyCatalogue,
    CatalogueRecord,
    DeleteVersion,
    ResolveReference,
    SetAlias,
)

_BODIES: dict[Kind, type[Contract]] = {
    Kind.MODEL: NewModelVersion,
    Kind.DATASET: NewDatasetVersion,
    Kind.REPORT: NewReportVersion,
}
Run = Callable[[Call], Coroutine[Any, Any, Any]]


class Caller(Protocol):
    """Calls the service that owns an endpoint."""

    def __call__(self, endpoint: Endpoint[Any, Any], request: Any) -> Coroutine[Any, Any, Any]:
        """Its response; raises its error."""


def operations(call: Caller) -> list[AdminOperation]:
    """The operations of all catalogues."""
    return [operation for catalogue in CATALOGUES for operation in _of(catalogue, call)]


def _of(catalogue: AnyCatalogue, call: Caller) -> list[AdminOperation]:
    kind = catalogue.kind
    one, alias = f"/{kind}s/{{reference}}", f"/{kind}s/{{name}}/aliases/{{alias}}"
    info = catalogue.resolve.response

    async def names(_request: Call) -> Any:
        return await call(catalogue.list, Empty())

    async def create(request: Call) -> Any:
        fields = {"name": request.path["name"], "manifest": request.body.manifest, "aliases": request.body.aliases}
        return await call(catalogue.create, catalogue.create.request(**fields))

    async def resolve(request: Call) -> Any:
        return await call(catalogue.resolve, ResolveReference(reference=request.path["reference"]))

    async def delete(request: Call) -> Any:
        return await call(catalogue.delete, DeleteVersion(reference=request.path["reference"]))

    async def set_alias(request: Call) -> Any:
        return await point(request, request.body.version)

    async def remove_alias(request: Call) -> Any:
        return await point(request, None)

    async def point(request: Call, version: int | None) -> Any:
        target = SetAlias(name=request.path["name"], alias=request.path["alias"], version=version)
        return await call(catalogue.set_alias, target)

    return [
        AdminOperation("GET", f"/{kind}s", f"All {kind}s with versions and aliases", catalogue.list.response, names),
        AdminOperation(
            "POST",
            f"/{kind}s/{{name}}/versions",
            f"Make a version of a {kind} from uploaded blobs",
            info,
            create,
            body=_BODIES[kind],
        ),
        AdminOperation("GET", one, "What name, name:3 or name@alias means", info, resolve),
        AdminOperation("DELETE", one, f"Delete a version or a {kind}", Empty, delete),
        AdminOperation("PUT", alias, "Point an alias", CatalogueRecord, set_alias, body=AliasTarget),
        AdminOperation("DELETE", alias, "Remove an alias", CatalogueRecord, remove_alias),
    ]
