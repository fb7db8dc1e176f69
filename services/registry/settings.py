"""What the registry reads from its environment."""

from pydantic import Field

from shared.service.settings import ServiceSettings


class Settings(ServiceSettings):
    """Environment of the registry, checked at start."""

    store_url: str = Field(validation_alias="LLMOS_STORE_URL")
    """Where model files are kept: `file:///a/folder` or `s3://bucket?endpoint=http://host:9000`."""
    s3_access_key: str | None = Field(default=None, validation_alias="LLMOS_S3_ACCESS_KEY", repr=False)
    """Access key of an S3 store; not needed for a folder."""
    s3_secret_key: str | None = Field(default=None, validation_alias="LLMOS_S3_SECRET_KEY", repr=False)
    """Secret key of an S3 store; not needed for a folder."""
    store_check: float = Field(default=5.0, gt=0, validation_alias="LLMOS_REGISTRY_STORE_CHECK")
    """Seconds between two checks that the store can be written to."""
    snapshot_interval: float = Field(default=60.0, gt=0, validation_alias="LLMOS_REGISTRY_SNAPSHOT_INTERVAL")
    """Seconds between two snapshots of control state in the store at least; without a change there is none."""
    snapshot_number: int = Field(default=60, ge=1, validation_alias="LLMOS_REGISTRY_SNAPSHOT_NUMBER")
    """Snapshots that stay, the newest first."""
    snapshot_days: int = Field(default=30, ge=0, le=36_500, validation_alias="LLMOS_REGISTRY_SNAPSHOT_DAYS")
    """Days of which the last snapshot stays as well."""
    scrub_rate: int = Field(default=8 << 20, ge=0, validation_alias="LLMOS_SCRUB_RATE")
    """Bytes a second that the background check (scrub) of the store reads; 0 switches it off."""
    scrub_interval: float = Field(default=86_400.0, gt=0, validation_alias="LLMOS_SCRUB_INTERVAL")
    """Seconds from the beginning of one scrub to the beginning of the next, if it has ended by then."""
