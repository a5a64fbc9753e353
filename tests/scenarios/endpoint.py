"""An application's report endpoint that works, hangs or refuses, as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs


@attrs.frozen
class Report:
    """One call: when it came, with which header fields, and what was in it."""

    at: float
    headers: dict[str, str]
    raw: bytes

    @property
    def items(self) -> list[dict[str, Any]]:
        return list(json.loads(self.raw)["delivery_report"])


class Endpoint:
    """
    A server in threads on a free port of the loopback.

    :ivar status: what calls are answered with.
    :ivar body: and the JSON that goes with it.
    :ivar pause: seconds that each call takes.
    :ivar most_open: the most calls that were ever open at once.
    :ivar calls: all that were made; *taken* those that were answered with an acknowledgement.
    """

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {"ok": True}
        self.pause = 0.0
        self.most_open = 0
        self.calls: list[Report] = []
        self.taken: list[Report] = []
        self._free = threading.Event()
        self._free.set()
        self._open = 0
        self._counting = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def hang(self) -> None:
        """Calls are read, and not answered before :meth:`go_on`."""
        self._free.clear()

    def go_on(self) -> None:
        self._free.set()

    def stop(self) -> None:
        self._free.set()
        self._server.shutdown()
        self._server.server_close()

    def items(self) -> list[dict[str, Any]]:
        """Every item that was acknowledged, in order."""
        return [item for report in list(self.taken) for item in report.items]

    def final(self) -> dict[str, dict[str, Any]]:
        """The newest acknowledged final item of each id."""
        return {item["id"]: item for item in self.items() if item["sent_ts"] or item["error_ts"]}

    def events(self) -> list[str]:
        """The ids of the final events that were acknowledged; one that comes again, again."""
        items = self.items()
        return [item["event_id"] for item in items if item["sent_ts"] or item["error_ts"]]

    def heard_at(self, id: str) -> float:
        """When the first call came that told of the message's end. :raises KeyError: none did."""
        for report in list(self.calls):
            for item in report.items:
                if item["id"] == id and (item["sent_ts"] or item["error_ts"]):
                    return report.at
        raise KeyError(id)

    def _take(self, report: Report) -> tuple[int, bytes]:
        self.calls.append(report)
        self._count(1)
        time.sleep(self.pause)
        self._free.wait()
        self._count(-1)
        status, body = self.status, json.dumps(self.body).encode()
        if status == 200 and not (isinstance(self.body, dict) and self.body.get("error")):
            self.taken.append(report)
        return status, body

    def _count(self, more: int) -> None:
        with self._counting:
            self._open += more
            self.most_open = max(self.most_open, self._open)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take: Callable[[Report], tuple[int, bytes]] = self._take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, body = take(Report(time.time(), headers, raw))
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:  # the caller is gone: killed, or it has waited long enough
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        return Handler
