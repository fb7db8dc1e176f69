"""A request for a fine-tuning job becomes a job."""

import secrets
from typing import Literal

from services.gateway.control_plane import ControlPlane
from services.gateway.openai.files.records import FileRecords
from services.gateway.openai.fine_tuning.base import base_version
from services.gateway.openai.fine_tuning.names import JOB_PREFIX, own_name
from services.gateway.openai.fine_tuning.recipe import recipe_of
from services.gateway.openai.fine_tuning.requests import MAX_SEED, FineTuningRequest
from services.gateway.openai.fine_tuning.resources import SHORTEST, training_resources
from services.gateway.routing.live_table import LiveTable
from shared.contracts.base import Empty
from shared.contracts.file import UploadedFile
from shared.contracts.fine_tuning import FineTuning
from shared.contracts.job import CREATE_JOB, CreateJob, Job, Upload
from shared.contracts.manifest import Kind, ManifestFile
from shared.contracts.registry import DATASETS, MODELS
from shared.errors import Conflict, InvalidInput

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
"""Of the files of a request, in this order."""
_NEEDS = {"supervised": "turns", "dpo": "pairs"}
_KEYS = {
    "turns": "conversations: objects with messages",
    "pairs": "pairs of answers: objects with input, preferred_output and non_preferred_output",
}


class JobCreation:
    """Makes jobs.

    Args:
        control: Calls registry and scheduler.
        table: The deployments.
        files: The uploaded files.
    """

    def __init__(self, control: ControlPlane, table: LiveTable, files: FileRecords) -> None:
        self._control = control
        self._table = table
        self._files = files

    async def create(self, body: FineTuningRequest, owner: str) -> Job:
        """Queue the job that `body` asks for.

        Raises:
            InvalidInput: A field is wrong, or a file does not fit the method.
            NotFound: There is no such model or file; the message names those that exist.
        """
        body.check()
        files = [await self._file(body, body.training_file, "training_file")]
        if body.validation_file is not None:
            if body.validation_file == body.training_file:
                raise InvalidInput("validation_file is the training file: give other rows", param="validation_file")
            files.append(await self._file(body, body.validation_file, "validation_file"))
        base = await base_version(body.model, self._table, self._control)
        given = body.model_dump(include={"model", "training_file", "validation_file", "suffix"})
        request = FineTuning(
            **given,
            method=body.learns,
            hyperparameters=body.chosen,
            seed=body.seed if body.seed is not None else secrets.randbelow(MAX_SEED),
            metadata=body.metadata or {},
        )
        # A token has a byte or more, and two or more in nearly every text.
        context, longest = base.manifest.context_length, max(file.longest for file in files)
        token = secrets.token_hex(4)
        job = CreateJob(
            id=f"{JOB_PREFIX}{token}",
            kind="train",
            base=base.reference,
            recipe=recipe_of(request, max_len=min(context, max(SHORTEST, longest))),
            result=Kind.MODEL,
            uploads=tuple(_upload(file, split) for file, split in zip(files, SPLITS, strict=False)),
            fine_tuning=request,
            resources=training_resources(base.manifest, min(context, longest // 2)),
            owner=owner,
        )
        if body.suffix is not None and not await self._taken(body.suffix):
            try:
                return await self._send(job, body.suffix)
            except Conflict as error:
                if error.param != "deploy":
                    raise
        return await self._send(job, own_name(base.name, body.suffix, token))

    async def _send(self, job: CreateJob, name: str) -> Job:
        return await self._control.call(CREATE_JOB, job.model_copy(update={"result_name": name, "deploy": name}))

    async def _taken(self, name: str) -> bool:
        """Whether a deployment, a model or a dataset has a name. Other jobs the scheduler knows."""
        models = await self._control.call(MODELS.list, Empty())
        datasets = await self._control.call(DATASETS.list, Empty())
        records = (*models.models, *datasets.datasets)
        return name in self._table.deployments or any(record.name == name for record in records)

    async def _file(self, body: FineTuningRequest, file_id: str, param: str) -> UploadedFile:
        file = await self._files.get(file_id, param)
        if file.purpose != "fine-tune":
            raise InvalidInput(
                f"{file.id} was uploaded for {file.purpose!r}; upload it with the purpose 'fine-tune'", param=param
            )
        _check_rows(file, body, param)
        return file


def _upload(file: UploadedFile, split: Split) -> Upload:
    return Upload(file=ManifestFile(path=file.id, digest=file.digest, size=file.size), name=file.name, split=split)


def _check_rows(file: UploadedFile, body: FineTuningRequest, param: str) -> None:
    needed = _NEEDS[body.learns]
    if file.rows != needed:
        has = _KEYS.get(file.rows or "", "no rows")
        raise InvalidInput(f"{file.name} has {has}; the method {body.learns!r} needs {_KEYS[needed]}", param=param)
