"""What an S3 server or the way to it says, as errors of ours."""

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from shared.errors import LlmosError, StorageFull, Unavailable

MINIO_ERRORS = (MinioException, HTTPError)
"""All that the client raises because of the server or the network."""

_FULL = {
    "XMinioStorageFull",
    "InsufficientStorage",
    "InsufficientCapacity",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
}
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}


def is_missing(error: S3Error) -> bool:
    """Whether the object is not there (the error says nothing about the server's health)."""
    return error.code in {"NoSuchKey", "NoSuchObject"}


def s3_error(error: Exception, where: str, doing: str) -> LlmosError:
    """Our error for one of `MINIO_ERRORS`.

    Args:
        error: What the client raised.
        where: `host:port/bucket`.
        doing: What failed, as in "storing blob ab12…".

    Returns:
        `StorageFull` when space or quota is used up, else `Unavailable`: unreachable, credentials refused, …
    """
    if isinstance(error, S3Error):
        said = f"{error.code}: {error.message}"
        status = error.response.status
        if error.code in _FULL or status == 507:
            return StorageFull(f"{doing} found no room in S3 at {where} ({said}); free some, or enlarge it")
        if error.code in _REFUSED:
            return Unavailable(
                f"{doing} failed: S3 at {where} refuses the credentials ({said}); "
                "check LLMOS_S3_ACCESS_KEY and LLMOS_S3_SECRET_KEY and what that key may do"
            )
        return Unavailable(f"{doing} failed: S3 at {where} answered {said} (HTTP {status})")
    if isinstance(error, ServerError | InvalidResponseError):
        return Unavailable(f"{doing} failed: S3 at {where} is broken, or something else listens there ({error})")
    return Unavailable(f"{doing} failed: S3 at {where} can't be reached ({_reason(error)})")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).rsplit(">: ", 1)[-1].rsplit("): ", 1)[-1]
