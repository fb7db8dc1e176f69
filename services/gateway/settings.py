"""What a person can set. The only place of the gateway that reads the environment."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from services.gateway.dispatch.limits import DispatchLimits
from services.gateway.limits.networks import Networks
from services.gateway.limits.stored import StoreLimits
from services.gateway.limits.time_limits import TimeLimits
from shared.deadlines import BODY_WINDOW_S, HEAD_S, KEEP_ALIVE_S, SEND_WINDOW_S
from shared.service.settings import ServiceSettings

_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?")


def _check_origins(given: str) -> str:
    for origin in _split(given):
        if not _ORIGIN.fullmatch(origin):
            msg = f"{origin!r} is no origin: a scheme, a host and, if need be, a port, such as https://a.example.com:8443"
            raise ValueError(msg)
    return given


def _check_networks(given: str) -> str:
    for name in _split(given):
        try:
            Networks((name,))
        except ValueError as error:
            msg = f"{error}; name addresses (10.0.0.7) and networks (10.0.0.0/8), separated by commas"
            raise ValueError(msg) from error
    return given


def _split(given: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",") if part.strip())


class Settings(ServiceSettings):
    """Environment of the gateway, checked at start."""

    host: str = Field(default="127.0.0.1", validation_alias="LLMOS_GATEWAY_HOST")
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535, validation_alias="LLMOS_GATEWAY_PORT")
    """Port to listen on; 0 takes a free one and logs it."""
    grpc_port: int | Literal["off"] = Field(default=8001, validation_alias="LLMOS_GATEWAY_GRPC_PORT")
    """Port of the Open Inference Protocol over gRPC, on the same address; 0 takes a free one and logs it, `off`:
    none."""
    auth: Literal["on", "off"] = Field(default="on", validation_alias="LLMOS_GATEWAY_AUTH")
    """Whether a request needs an API key."""
    admin_key_file: Path | None = Field(default=None, validation_alias="LLMOS_GATEWAY_ADMIN_KEY_FILE")
    """A file that holds the first admin key."""
    await_deployments: float = Field(default=0.0, ge=0, le=3600, validation_alias="LLMOS_GATEWAY_AWAIT_DEPLOYMENTS")
    """Seconds for which a gateway that starts is not ready while a deployment has no replica that takes requests."""
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
    head_timeout: float = Field(default=HEAD_S, gt=0, le=3600, validation_alias="LLMOS_GATEWAY_HEAD_TIMEOUT")
    """Seconds for a client to send the head of a request, from its first byte; then 408."""
    body_timeout: float = Field(default=BODY_WINDOW_S, gt=0, le=3600, validation_alias="LLMOS_GATEWAY_BODY_TIMEOUT")
    """Seconds in which a body must move on, by 240 bytes a second; then 408."""
    send_timeout: float = Field(default=SEND_WINDOW_S, gt=0, le=3600, validation_alias="LLMOS_GATEWAY_SEND_TIMEOUT")
    """Seconds in which a client with unread bytes must read on, by 240 bytes a second; then it is dropped."""
    max_connections: int = Field(default=4096, ge=1, validation_alias="LLMOS_GATEWAY_MAX_CONNECTIONS")
    """Connections at once. Beyond them the one that has been idle for longest is closed; if none is idle: 503."""
    max_connections_per_address: int = Field(
        default=1024, ge=1, validation_alias="LLMOS_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS"
    )
    """Of them, from one address (IPv6: one /64); then 429. Trusted proxies and this machine are exempt."""
    trusted_proxies: Annotated[str, AfterValidator(_check_networks)] = Field(
        default="", validation_alias="LLMOS_GATEWAY_TRUSTED_PROXIES"
    )
    """Addresses or networks of proxies in front, separated by commas: their `X-Forwarded-For` is believed. Default:
    none, not even on this machine."""
    trust_trace_context: bool = Field(default=False, validation_alias="LLMOS_GATEWAY_TRUST_TRACE_CONTEXT")
    """Whether a client's `traceparent` is continued: with clients of your own only. Otherwise traces link to it."""
    cors_origins: Annotated[str, AfterValidator(_check_origins)] = Field(
        default="", validation_alias="LLMOS_GATEWAY_CORS_ORIGINS"
    )
    """Origins whose pages may call the API from a browser, separated by commas: `https://a.example.com`. `*`: all."""
    metrics_by_key: bool = Field(default=False, validation_alias="LLMOS_GATEWAY_METRICS_BY_KEY")
    """Whether `/metrics` also counts requests and tokens for each API key, by its id: 200 keys at most."""
    max_file: int = Field(default=512 << 20, gt=0, validation_alias="LLMOS_GATEWAY_MAX_FILE")
    """Largest file in bytes that `/v1/files` takes."""
    stored_responses: int = Field(default=10_000, ge=1, validation_alias="LLMOS_GATEWAY_STORED_RESPONSES")
    """Responses and conversations that a key may have stored; then the oldest give way."""
    stored_bytes: int = Field(default=64 << 20, ge=1, validation_alias="LLMOS_GATEWAY_STORED_BYTES")
    """Bytes of the responses and conversations that a key may have stored; then the oldest give way."""
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
    def stored(self) -> StoreLimits:
        """What a key may store."""
        return StoreLimits(self.stored_responses, self.stored_bytes)

    @property
    def time_limits(self) -> TimeLimits:
        """How long clients are waited for."""
        return TimeLimits(
            keep_alive=self.keep_alive,
            head=self.head_timeout,
            body_window=self.body_timeout,
            send_window=self.send_timeout,
        )

    @property
    def proxies(self) -> Networks:
        """The networks in `trusted_proxies`."""
        return Networks(_split(self.trusted_proxies))

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins in `cors_origins`."""
        return _split(self.cors_origins)
