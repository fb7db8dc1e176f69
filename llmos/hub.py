"""Downloads a model's files from the Hugging Face hub, or from a mirror that speaks its API.

Only what an import reads is fetched: see `llmos.hub_files`. A download that was cut off goes on where it stopped, and
every file is checked against the size and, where the hub states one, the SHA-256 that the hub has for it.
`huggingface_hub` does neither: see docs/adr/0046.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from llmos.connection import http_client
from llmos.hub_files import GGUF, HubFile, HubModel, needed_files
from llmos.progress import Progress
from shared.errors import CorruptFile, NotFound, PermissionDenied, Unavailable

HUB = "https://huggingface.co"
_ATTEMPTS = 5
"""Times that a file is taken up again without a byte having come."""
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What arrived."""

    origin: str
    """`org/name@commit`, with `:Q4_K_M` for a GGUF."""
    path: Path
    """A directory, or a GGUF (its first part, if there are several)."""


class Hub:
    """A client of the hub.

    Args:
        url: Of the hub or a mirror; HF_ENDPOINT if None.
        token: HF_TOKEN if None, and for the hub itself what `hf auth login` has left.
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.url = (url or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        token = token or os.environ.get("HF_TOKEN") or (_stored_token() if self.url == HUB else "")
        self._http = http_client(
            self.url,
            key=token,
            timeout=_TIMEOUT,
            follow_redirects=True,
            named="HF_ENDPOINT",
            key_named="HF_TOKEN",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def origin(self, model: HubModel) -> str:
        """`org/name@commit` of what `model` is now; raises as `download` does."""
        return _origin(model, self._list(model)[0])

    def download(self, model: HubModel, folder: Path, progress: Progress) -> Downloaded:
        """Fetch the files of `model` into `folder`.

        What is in `folder` already is not fetched again. `progress` is called with the stage `download`.

        Raises:
            Unavailable: the hub can't be reached.
            NotFound: no such model or revision.
            PermissionDenied: the model is gated or private.
            UnsupportedFormat: the model has no weights that can be imported, or several GGUFs to choose from.
            CorruptFile: a file is not what the hub says it is.
        """
        commit, files = self._list(model)
        folder.mkdir(parents=True, exist_ok=True)
        total, done = max(sum(file.size for file in files), 1), 0
        progress("download", 0.0, total)
        for file in files:
            before = done

            def received(count: int, before: int = before) -> None:
                progress("download", min(1.0, (before + count) / total), total)

            self._fetch(f"{self.url}/{model.repository}/resolve/{commit}/{file.name}", file, folder, received)
            done += file.size
        progress("download", 1.0, total)
        ggufs = sorted(file.name for file in files if file.name.endswith(GGUF))
        return Downloaded(_origin(model, commit), folder / ggufs[0] if ggufs else folder)

    def _list(self, model: HubModel) -> tuple[str, list[HubFile]]:
        url = f"{self.url}/api/models/{model.repository}/revision/{model.revision}"
        try:
            response = self._http.get(url, params={"blobs": "true"})
        except httpx.TransportError as error:
            raise self._unreachable(model, error) from error
        self._check(response, model.repository)
        try:
            body = response.json()
            commit, siblings = body["sha"], body["siblings"]
            files = [_described(sibling) for sibling in siblings if ".." not in sibling["rfilename"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{url} answered something else than a hub does") from error
        if not re.fullmatch(r"[0-9a-f]{40}", str(commit)):
            raise Unavailable(f"{url} answered no commit")
        return commit, needed_files(model, files)

    def _fetch(self, url: str, file: HubFile, folder: Path, received: Callable[[int], None]) -> None:
        path, partial = folder / file.name, folder / f"{file.name}.partial"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size == file.size:
            return
        if _size(partial) > file.size:
            partial.unlink()
        stalled = 0
        while not partial.exists() or _size(partial) < file.size:
            before, broken = _size(partial), None
            try:
                self._stream(url, partial, before, received)
            except httpx.TransportError as error:
                broken = error
            stalled = 0 if _size(partial) > before else stalled + 1
            if stalled == _ATTEMPTS:
                raise Unavailable(
                    f"the connection to {self.url} broke at {_size(partial):,} of {file.size:,} bytes of {file.name};"
                    " run the same command again to go on from there"
                ) from broken
        _check_arrived(partial, file)
        partial.replace(path)

    def _stream(self, url: str, partial: Path, have: int, received: Callable[[int], None]) -> None:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self._http.stream("GET", url, headers=headers) as response:
            self._check(response, url)
            goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT
            with partial.open("ab" if goes_on else "wb") as out:
                for chunk in response.iter_raw():
                    out.write(chunk)
                    received(out.tell())

    def _check(self, response: httpx.Response, what: str) -> None:
        if response.is_success:
            return
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            # The hub also answers 401 for a repository that does not exist: 404 would reveal which private ones do.
            raise PermissionDenied(
                f"{what}: the hub requires a login. The name may be wrong; if the model is gated, accept its"
                f" terms at {self.url} and set HF_TOKEN"
            )
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"{what}: the hub at {self.url} has no such model, revision or file", param="source")
        raise Unavailable(f"{self.url} answered {response.status_code} for {what}; try again later")

    def _unreachable(self, model: HubModel, error: httpx.TransportError) -> Unavailable:
        return Unavailable(
            f"the hub at {self.url} can't be reached ({error}): download {model.repository} on a machine that can,"
            " copy the folder here and import it by its path"
        )


def _stored_token() -> str:
    """What `hf auth login` has left, where the hub's own tools look for it."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    path = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser()
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _origin(model: HubModel, commit: str) -> str:
    return f"{model.repository}@{commit}" + (f":{model.quantization}" if model.quantization else "")


def _described(sibling: dict[str, Any]) -> HubFile:
    lfs = sibling.get("lfs")
    digest = lfs["sha256"] if isinstance(lfs, dict) else None
    return HubFile(sibling["rfilename"], int(sibling["size"]), digest)


def _check_arrived(path: Path, file: HubFile) -> None:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if _size(path) == file.size and file.sha256 in (None, digest):
        return
    arrived = _size(path)
    path.unlink()
    raise CorruptFile(
        f"{file.name} arrived with {arrived:,} bytes and SHA-256 {digest[:12]}…, and the hub says it has"
        f" {file.size:,} and {(file.sha256 or 'any')[:12]}…; run the same command again",
        param="source",
    )
