"""What a job's process reads from its environment, which is its node agent's."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

NO_GATEWAY = (
    "this node does not know the gateway that an evaluation asks: set LLMOS_JOB_GATEWAY_URL and"
    " LLMOS_JOB_API_KEY_FILE for its node agent, or run 'llmos evaluate --here'"
)


class Settings(BaseSettings):
    """Where the store is, and the gateway."""

    model_config = SettingsConfigDict(env_prefix="LLMOS_", frozen=True, extra="ignore", env_ignore_empty=True)

    store_url: str
    cache_dir: Path | None = None
    s3_access_key: str | None = None
    s3_secret_key: SecretStr | None = None
    training_address: str = "127.0.0.1"
    """The node's IP address at which other nodes reach a training."""
    job_gateway_url: str | None = None
    """The gateway that jobs ask, as evaluations do. Default: none; such a job fails and says so."""
    job_api_key_file: Path | None = None
    """File with the API key for it: with the scopes `inference` and `read`."""
