"""The routes of the admin API."""

from services.gateway.admin.api import AdminApi
from services.gateway.admin.blobs import BlobsApi
from services.gateway.admin.events import EventsApi
from services.gateway.admin.jobs import JobsApi
from services.gateway.admin.operations import PREFIX, TAG
from services.gateway.admin.traces import TracesApi
from services.gateway.http.operation import OCTETS, Operation
from services.gateway.keys import KeyStore
from shared.bus.port import Bus
from shared.storage.port import ArtifactStore


def routes(bus: Bus, keys: KeyStore, store: ArtifactStore | None, max_body: int) -> list[Operation]:
    """The operations.

    Args:
        bus: To the services that own the state.
        keys: The API keys.
        store: For blobs; None where the gateway has none.
        max_body: Bytes of a request at most, blobs excepted.
    """
    admin, blobs = AdminApi(bus, keys), BlobsApi(store)
    traces, blob = TracesApi(admin), PREFIX + "/blobs/{digest}"
    return [
        *(each.operation(max_body) for each in admin.operations()),
        Operation("GET", blob, blobs.show, "A file by its SHA-256", TAG, result=OCTETS),
        Operation("HEAD", blob, blobs.show, "Whether a file is there", TAG, result={}),
        Operation(
            "PUT", blob, blobs.put, "Upload a file; 200 when it was there", TAG, body=OCTETS, statuses=(201, 200)
        ),
        *EventsApi(bus).operations(),
        *JobsApi(bus, admin, keys, max_body).operations(),
        Operation("GET", PREFIX + "/traces/{trace_id}", traces.show, "A trace as OTLP JSON", TAG),
    ]
