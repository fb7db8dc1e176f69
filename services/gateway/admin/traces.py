"""`GET /llmos/v1/traces/{trace_id}`: one trace as OTLP JSON, passed on byte for byte."""

import re

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.admin.api import AdminApi
from shared.contracts.monitor import GET_TRACE, GetTrace
from shared.errors import InvalidInput

_TRACE_ID = re.compile(r"^[0-9a-f]{32}$")


class TracesApi:
    """Traces by id."""

    def __init__(self, admin: AdminApi) -> None:
        self._admin = admin

    async def show(self, request: Request) -> Response:
        """The trace; raises `NotFound`."""
        trace_id = request.path_params["trace_id"].lower()
        if not _TRACE_ID.match(trace_id):
            raise InvalidInput("a trace id is 32 hexadecimal digits, as in x-trace-id", param="trace_id")
        document = await self._admin.call(GET_TRACE, GetTrace(trace_id=trace_id))
        return Response(document.otlp_json, media_type="application/json")
