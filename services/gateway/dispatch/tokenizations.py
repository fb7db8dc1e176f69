"""Asks a replica's tokenizer: any replica of the deployment, the next one when one does not respond."""

from collections.abc import Callable, Iterable

from services.gateway.dispatch.dispatcher import PROMPT_BYTES_PER_S
from services.gateway.dispatch.questions import Command, Questions, Result
from shared.contracts.base import Endpoint
from shared.contracts.tokenization import MAX_CHARS
from shared.errors import InvalidInput, NotFound, PayloadTooLarge


def check_chars(texts: Iterable[str], param: str) -> None:
    """Raise `PayloadTooLarge` if there is more text than a tokenizer is asked for at once."""
    if (chars := sum(map(len, texts))) > MAX_CHARS:
        raise PayloadTooLarge(f"the text has {chars} characters; at most {MAX_CHARS} are taken", param=param)


class Tokenizations(Questions):
    """All that an API dialect needs to ask for tokens."""

    def deployment(self, model: str | None) -> str:
        """The deployment that a request names. Without a name: the only one, or the only one that generates text.

        Raises:
            InvalidInput: It names none, and there are several.
            NotFound: Nothing is deployed.
        """
        if model is not None:
            return model
        known = self._dispatcher.table.deployments
        for candidates in (list(known.values()), [each for each in known.values() if each.task == "generate"]):
            if len(candidates) == 1:
                return candidates[0].name
        if not known:
            raise NotFound("no model is deployed yet (see `llmos deploy`)", param="model")
        raise InvalidInput(f"model is required, one of: {', '.join(sorted(known))}", param="model")

    async def ask(
        self,
        deployment: str,
        endpoint: Callable[[str], Endpoint[Command, Result]],
        command: Command,
        *,
        size: int = 0,
    ) -> Result:
        """What a replica of `deployment` responds; `size` is the bytes of its text.

        Raises:
            NotFound: There is no such deployment.
            Unavailable: No replica responds now.
            LlmosError: The replica says what is wrong with the request.
        """
        known = self._dispatcher.table.deployments.get(deployment)
        timeout = self._dispatcher.limits.accept + size / PROMPT_BYTES_PER_S
        task = "generate" if known is None else known.task
        return await self.ask_any(deployment, task, endpoint, command, timeout=timeout)
