"""A real HTTP proxy on loopback that writes down what it was asked for, and answers itself or refuses."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Proxy:
    """While inside, `url` proxies; `asked` has `METHOD target` of each request.

    Args:
        status: Of each answer.
        body: Of each answer to another method than CONNECT.
    """

    def __init__(self, status: int = 200, body: bytes = b"{}") -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _respond(self) -> None:
                proxy.asked.append(f"{self.command} {self.path}")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_CONNECT = _respond  # noqa: N815  # the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as http.server has it
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="proxy")

    @property
    def url(self) -> str:
        """For HTTP_PROXY."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
