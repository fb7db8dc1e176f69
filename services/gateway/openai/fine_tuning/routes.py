"""The routes of files and fine-tuning jobs."""

from services.gateway.control_plane import ControlPlane
from services.gateway.http.operation import Operation
from services.gateway.openai.files.api import FilesApi
from services.gateway.openai.files.records import FileRecords
from services.gateway.openai.fine_tuning.api import FineTuningApi
from services.gateway.openai.fine_tuning.creation import JobCreation
from services.gateway.routing.live_table import LiveTable
from shared.audit.trail import Trail
from shared.bus.port import Bus
from shared.storage.port import ArtifactStore


def routes(
    bus: Bus, trail: Trail, table: LiveTable, store: ArtifactStore | None, *, max_body: int, max_file: int
) -> list[Operation]:
    """The operations.

    Args:
        bus: Has the records of files and the events of jobs; to registry and scheduler.
        trail: Takes the events of files.
        table: The deployments.
        store: Has the bytes of files; None where the gateway has none.
        max_body: Bytes of a request at most, uploads excepted.
        max_file: Bytes of an uploaded file at most.
    """
    files, control = FileRecords(bus, trail), ControlPlane(bus)
    creation = JobCreation(control, table, files)
    return [
        *FilesApi(files, store, max_file).operations(),
        *FineTuningApi(bus, control, creation, max_body).operations(),
    ]
