"""The one mapping from errors to HTTP."""

import jsonschema
import pytest

from services.gateway.anthropic.dialect import ANTHROPIC
from services.gateway.http import errors as http_errors
from services.gateway.http.dialect import OPENAI, Dialect
from services.gateway.ollama.dialect import OLLAMA
from shared import errors

EXPECTED = {
    errors.InvalidInput: 400,
    errors.ContextLengthExceeded: 400,
    errors.PayloadTooLarge: 413,
    errors.UnsupportedFormat: 400,
    errors.CorruptFile: 400,
    errors.TrainingDiverged: 400,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.ModelNotFound: 404,
    errors.Conflict: 409,
    errors.Overloaded: 429,
    errors.Draining: 503,
    errors.Unavailable: 503,
    errors.NoResponders: 503,
    errors.Disconnected: 503,
    errors.ReplicaLost: 503,
    errors.NotRecorded: 503,
    errors.DeadlineExceeded: 504,
    errors.StorageFull: 507,
    errors.Internal: 500,
}


def every(kind: type[errors.LlmosError]) -> set[type[errors.LlmosError]]:
    return {kind}.union(*(every(child) for child in kind.__subclasses__()))


def test_every_error_of_the_tree_has_its_status() -> None:
    ours = {kind for kind in every(errors.LlmosError) if kind.__module__ == "shared.errors"} - {errors.LlmosError}
    assert ours == set(EXPECTED)
    assert {kind: http_errors.status(kind("x")) for kind in ours} == EXPECTED


def test_the_body_is_openais() -> None:
    body = OPENAI.error(errors.InvalidInput("n: too many", param="n"))
    assert body == {
        "error": {
            "message": "n: too many",
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_input",
        }
    }


@pytest.mark.parametrize(("given", "sent"), [(None, b"1"), (0.0, b"1"), (0.2, b"1"), (3.2, b"4"), (30.0, b"30")])
def test_overload_and_unavailability_say_when_to_retry(given: float | None, sent: bytes) -> None:
    for kind in (errors.Overloaded, errors.Unavailable, errors.Draining):
        assert (b"retry-after", sent) in http_errors.headers(kind("x", retry_after=given))


@pytest.mark.parametrize(("given", "says"), [(0.2, "1 s"), (6.4, "7 s"), (None, "1 s")])
def test_the_text_of_429_names_the_seconds_of_its_header(given: float | None, says: str) -> None:
    error = errors.Overloaded("16 requests wait already", retry_after=given)
    message = OPENAI.error(error)["error"]["message"]
    assert message == f"16 requests wait already; try again in {says}"
    assert (b"retry-after", says.split(maxsplit=1)[0].encode()) in http_errors.headers(error)


def test_other_errors_name_no_time() -> None:
    for kind in (errors.InvalidInput, errors.Internal, errors.NotFound, errors.DeadlineExceeded):
        assert http_errors.headers(kind("x", retry_after=3.0)) == []


def test_an_unknown_exception_becomes_internal_with_an_id_and_no_detail(capsys: pytest.CaptureFixture[str]) -> None:
    failure = http_errors.as_llmos(ZeroDivisionError("secret detail"), "GET", "/x")
    assert isinstance(failure, errors.Internal)
    assert "secret" not in failure.message
    error_id = failure.message.rsplit(" ", 1)[1]
    assert error_id in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (http_errors.MethodNotAllowed("x", "GET, POST"), 405, (b"allow", b"GET, POST")),
        (http_errors.RequestTimeout("x"), 408, None),
        (http_errors.UriTooLong("x"), 414, None),
        (http_errors.UnsupportedMediaType("x"), 415, (b"accept-encoding", b"identity")),
        (http_errors.HeadersTooLarge("x"), 431, None),
    ],
)
def test_errors_of_http_itself_have_their_own_statuses(
    error: http_errors.HttpError, status: int, header: tuple[bytes, bytes] | None
) -> None:
    assert http_errors.status(error) == status
    assert http_errors.openai_type(error) == "invalid_request_error"
    assert header is None or header in http_errors.headers(error)


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, OLLAMA], ids=lambda each: each.name)
def test_a_dialects_errors_are_what_the_document_says(dialect: Dialect) -> None:
    for error in (errors.InvalidInput("no", param="model"), errors.Overloaded("full", retry_after=3)):
        jsonschema.validate(dialect.error(error), dict(dialect.schema))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, dict(dialect.schema))
