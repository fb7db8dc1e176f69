"""Finds the version that an import would make once more."""

from collections.abc import Callable
from itertools import islice

from llmos.client import Client
from shared.contracts.manifest import Lineage
from shared.contracts.registry import ModelVersion

LOOKED_AT = 100
"""Versions of the model, newest first, whose lineage is compared."""


def earlier_import(
    client: Client, name: str, conversion: str, same_source: Callable[[Lineage], bool]
) -> ModelVersion | None:
    """The newest version of `name` from the same source by the same conversion, if its files are whole in the store.

    A version with a damaged or missing file is passed over: importing it again uploads that file.

    Args:
        client: Of the gateway.
        name: Of the model.
        conversion: `Lineage.conversion` of the import.
        same_source: Whether a lineage has the source of the import; called only where the conversion is the same.
    """
    record = next((model for model in client.models.list().models if model.name == name), None)
    for entry in islice(reversed(record.versions if record else ()), LOOKED_AT):
        version = client.models.version(f"{name}:{entry.version}")
        manifest = version.manifest
        if (
            manifest.lineage.conversion == conversion
            and same_source(manifest.lineage)
            and all(client.models.has_file(file) for file in manifest.files)
        ):
            return version
    return None
