"""What is evaluated: a version that a deployment serves."""

from dataclasses import dataclass

from devtools.evaluate.gateway import Gateway
from shared.contracts.manifest import Digest
from shared.contracts.scheduler import DeploymentStatus
from shared.errors import Conflict, InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Subject:
    """A version and where it is served.

    reference: `name:version`
    start: a text after which any text may begin; "" where the model's own BOS token is put before a prompt
    """

    deployment: str
    reference: str
    digest: Digest
    start: str


async def find_subject(gateway: Gateway, reference: str) -> Subject:
    """The version that a deployment of this name serves, or the deployment that serves this version.

    Raises:
        NotFound: No deployment serves it; the message names those that exist.
        InvalidInput: It does not generate text.
    """
    statuses = (await gateway.deployments()).deployments
    found = next((status for status in statuses if status.deployment.name == reference), None)
    if found is None:
        try:
            digest = (await gateway.version(reference)).digest
        except NotFound as error:
            raise NotFound(f"{error.message}; {_served(statuses)}", param="reference") from None
        serving = [status for status in statuses if status.deployment.digest == digest]
        if not serving:
            raise NotFound(
                f"no deployment serves {reference}: an evaluation asks what is served. Deploy it with"
                f" 'llmos deploy {reference} --name NAME'; {_served(statuses)}",
                param="reference",
            )
        found = max(serving, key=lambda status: status.ready)
    if found.deployment.task != "generate":
        raise InvalidInput(
            f"{reference} does not generate text: its task is {found.deployment.task}", param="reference"
        )
    version = await gateway.version(f"{found.deployment.model}:{found.deployment.version}")
    decoder = version.manifest.decoder
    own_start = decoder is not None and decoder.add_bos_token
    return Subject(found.deployment.name, version.reference, version.digest, "" if own_start else "\n")


async def check_still_served(gateway: Gateway, subject: Subject) -> None:
    """Raise Conflict if the deployment serves another version by now: answers of both would be mixed."""
    for status in (await gateway.deployments()).deployments:
        if status.deployment.name == subject.deployment and status.deployment.digest == subject.digest:
            return
    raise Conflict(
        f"deployment {subject.deployment} no longer serves {subject.reference}, so the evaluation was given up"
    )


def _served(statuses: tuple[DeploymentStatus, ...]) -> str:
    shown = ", ".join(f"{s.deployment.name} ({s.deployment.model}:{s.deployment.version})" for s in statuses)
    return f"deployed now: {shown or 'nothing'}"
