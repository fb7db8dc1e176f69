"""What a person can set. The only place of the gateway that reads the environment."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from services.gateway.dispatch.limits import DispatchLimits
from shared.deadlines import KEEP_ALIVE_S
from shared.service.settings import ServiceSettings

_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?")


def _check_origins(given: str) -> str:
    for origin in _split(given):
        if not _ORIGIN.fullmatch(origin):
            msg = f"{origin!r} is no origin: a scheme, a host and, if need be, a port, such as https://a.example.com:8443"
            raise ValueError(msg)
    return given


def _split(given: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",") if part.strip())


class Settings(ServiceSettings):
    """Environment of the gateway, checked at start."""

    host: str = Field(default="127.0.0.1", validation_alias="LLMOS_GATEWAY_HOST")
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535, validation_alias="LLMOS_GATEWAY_PORT")
    """Port to listen on; 0 takes a free one and logs it."""
    auth: Literal["on", "off"] = Field(default="on", validation_alias="LLMOS_GATEWAY_AUTH")
    """Whether a request needs an API key."""
    admin_key_file: Path | None = Field(default=None, validation_alias="LLMOS_GATEWAY_ADMIN_KEY_FILE")
    """A file that holds the first admin key."""
    request_timeout: float = Field(default=600.0, gt=0, validation_alias="LLMOS_GATEWAY_REQUEST_TIMEOUT")
    """Seconds after which an answer is given up: 504, or an `error` event in a stream."""
    accept_timeout: float = Field(default=2.0, gt=0, validation_alias="LLMOS_GATEWAY_ACCEPT_TIMEOUT")
    """Seconds for a replica to accept or reject a request."""
    resume_timeout: float = Field(default=60.0, gt=0, validation_alias="LLMOS_GATEWAY_RESUME_TIMEOUT")
    """Seconds to look for another replica when the one that answered was lost; a single one that stalled is
    restarted within them."""
    max_body: int = Field(default=16 << 20, gt=0, validation_alias="LLMOS_GATEWAY_MAX_BODY")
    """Largest body of a request in bytes, except for uploads of blobs and files."""
    keep_alive: float = Field(default=KEEP_ALIVE_S, gt=0, le=86400, validation_alias="LLMOS_GATEWAY_KEEP_ALIVE")
    """Seconds that an idle connection stays open: longer than the pools of clients and proxies keep it."""
    cors_origins: Annotated[str, AfterValidator(_check_origins)] = Field(
        default="", validation_alias="LLMOS_GATEWAY_CORS_ORIGINS"
    )
    """Origins whose pages may call the API from a browser, separated by commas: `https://a.example.com`. `*`: all."""
    max_file: int = Field(default=512 << 20, gt=0, validation_alias="LLMOS_GATEWAY_MAX_FILE")
    """Largest file in bytes that `/v1/files` takes."""
    store_url: str | None = Field(default=None, validation_alias="LLMOS_STORE_URL")
    """Where blobs are kept; without it the blob routes answer 503."""
    s3_access_key: str | None = Field(default=None, validation_alias="LLMOS_S3_ACCESS_KEY")
    """Access key of an S3 store; not needed for a folder."""
    s3_secret_key: str | None = Field(default=None, validation_alias="LLMOS_S3_SECRET_KEY", repr=False)
    """Secret key of an S3 store; not needed for a folder."""

    @property
    def limits(self) -> DispatchLimits:
        """How long dispatch waits."""
        return DispatchLimits(accept=self.accept_timeout, resume=self.resume_timeout)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins in `cors_origins`."""
        return _split(self.cors_origins)
