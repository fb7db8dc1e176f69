"""The one error tree of LLMOS.

    LlmosError                      code, message, param, retryable, retry_after
    ├── InvalidInput                invalid_input              the caller must change the request
    │   ├── ContextLengthExceeded   context_length_exceeded    prompt + max_tokens does not fit
    │   ├── PayloadTooLarge         payload_too_large          larger than a stated limit
    │   ├── UnsupportedFormat       unsupported_format         a file of a kind that can't be used
    │   ├── CorruptFile             corrupt_file               a file that is not what it says it is
    │   └── TrainingDiverged        training_diverged          a loss that is not a number
    ├── NotFound                    not_found                  names what exists instead
    │   └── ModelNotFound           model_not_found            no deployment has this name
    ├── Conflict                    conflict                   somebody changed it first, or it is in use
    ├── Unauthenticated             invalid_api_key            no key, or a wrong one
    ├── PermissionDenied            permission_denied          the key lacks a scope
    ├── Overloaded                  overloaded        retryable  the queue is at its bound
    ├── Draining                    draining          retryable  the replica takes nothing new
    ├── Unavailable                 unavailable       retryable  nothing can serve this now
    │   ├── NoResponders            no_responders     retryable  no process listens on the subject
    │   ├── Disconnected            disconnected      retryable  the bus connection is down
    │   ├── ReplicaLost             replica_lost      retryable  the replica went away in mid-answer
    │   └── NotRecorded             not_recorded      retryable  a change whose event can't be stored is not made
    ├── DeadlineExceeded            deadline_exceeded          the time given is over
    ├── StorageFull                 storage_full               no room for the bytes
    └── Internal                    internal                   our fault; the id is in the log

An error crosses the bus as an `ErrorPayload` and is raised again on the other side as the same class.
HTTP statuses are mapped in `services/gateway/http/errors.py` and nowhere else.
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class ErrorPayload(BaseModel):
    """An error as it crosses the bus."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    param: str | None = None
    retryable: bool = False
    retry_after: float | None = None
    """Seconds after which a retry makes sense."""


class LlmosError(Exception):
    """The root: everything that LLMOS raises on purpose.

    Args:
        message: What is wrong and what to do, for the person who asked.
        param: The field of the request that is wrong, in dotted form.
        retry_after: Seconds after which a retry makes sense.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def payload(self) -> ErrorPayload:
        """The error as it crosses the bus."""
        return ErrorPayload(
            code=self.code,
            message=self.message,
            param=self.param,
            retryable=self.retryable,
            retry_after=self.retry_after,
        )


class InvalidInput(LlmosError):
    """The request is wrong; the caller must change it."""

    code = "invalid_input"


class ContextLengthExceeded(InvalidInput):
    """The prompt and the tokens asked for do not fit the model's context."""

    code = "context_length_exceeded"


class PayloadTooLarge(InvalidInput):
    """More bytes than a stated limit."""

    code = "payload_too_large"


class UnsupportedFormat(InvalidInput):
    """A file of a kind that LLMOS cannot use."""

    code = "unsupported_format"


class CorruptFile(InvalidInput):
    """A file that is not what it says it is: truncated, or its digest differs."""

    code = "corrupt_file"


class TrainingDiverged(InvalidInput):
    """The loss of a training is not a number; the message has the step and the row."""

    code = "training_diverged"


class NotFound(LlmosError):
    """The named thing does not exist; the message names what does."""

    code = "not_found"


class ModelNotFound(NotFound):
    """No deployment has the name that a request gives as its model. The code is OpenAI's."""

    code = "model_not_found"


class Conflict(LlmosError):
    """Somebody changed the record first, the name is taken, or the thing is in use."""

    code = "conflict"


class Unauthenticated(LlmosError):
    """No API key, or one that does not exist. The code is OpenAI's."""

    code = "invalid_api_key"


class PermissionDenied(LlmosError):
    """The API key lacks the scope."""

    code = "permission_denied"


class Overloaded(LlmosError):
    """A queue is at its bound."""

    code = "overloaded"
    retryable = True


class Draining(LlmosError):
    """The replica finishes what it has and takes nothing new."""

    code = "draining"
    retryable = True


class Unavailable(LlmosError):
    """Nothing can serve this now."""

    code = "unavailable"
    retryable = True


class NoResponders(Unavailable):
    """No process listens on the subject."""

    code = "no_responders"


class Disconnected(Unavailable):
    """The bus connection is down."""

    code = "disconnected"


class ReplicaLost(Unavailable):
    """The replica went away in the middle of an answer."""

    code = "replica_lost"


class NotRecorded(Unavailable):
    """A change of control state was not made, because its event could not be stored."""

    code = "not_recorded"


class DeadlineExceeded(LlmosError):
    """The time given for the request is over."""

    code = "deadline_exceeded"


class StorageFull(LlmosError):
    """There is no room for the bytes."""

    code = "storage_full"


class Internal(LlmosError):
    """Our fault. The message carries an id that stands in the log too."""

    code = "internal"


def _tree(root: type[LlmosError]) -> list[type[LlmosError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


_BY_CODE = {error.code: error for error in _tree(LlmosError)}
_BY_CODE["internal"] = Internal


def from_payload(payload: ErrorPayload) -> LlmosError:
    """The error that `payload` describes; an unknown code becomes `Internal`."""
    kind = _BY_CODE.get(payload.code, Internal)
    return kind(payload.message, param=payload.param, retry_after=payload.retry_after)
