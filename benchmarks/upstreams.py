"""
An upstream that fails in one way, in a process of its own: what benchmarks put beside a good one.

    python -m benchmarks.upstreams hang|refuse|storm|reset|login|good [--port PORT]

Prints its port. *hang*: takes connections and says nothing. *refuse*: listens nowhere. *storm*: 421
to every MAIL, then closes. *reset*: resets the connection in the middle of every body. *login*:
refuses every AUTH. *good*: accepts everything.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
import subprocess
import sys

KINDS = ("hang", "refuse", "storm", "reset", "login", "good")

#: Bytes of a body that *reset* reads first.
SOME = 200

#: SO_LINGER on, of no seconds: closing sends RST.
_RESET = struct.pack("ii", 1, 0)


class _Upstream:
    def __init__(self, kind: str) -> None:
        self._kind = kind

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._kind == "hang":
                await reader.read()  # until the other side has had enough
                return
            writer.write(b"220 upstream\r\n")
            while line := await reader.readline():
                if not await self._answer(line[:4].upper(), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, verb: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """:return: whether the conversation goes on."""
        if verb == b"EHLO":
            login = b"250-AUTH PLAIN LOGIN\r\n" if self._kind == "login" else b""
            writer.write(b"250-upstream\r\n250-PIPELINING\r\n" + login + b"250 8BITMIME\r\n")
        elif verb == b"AUTH":
            writer.write(b"535 5.7.8 Authentication failed\r\n")
        elif verb == b"MAIL" and self._kind == "storm":
            writer.write(b"421 4.7.0 Too many connections\r\n")
            return False
        elif verb == b"DATA":
            writer.write(b"354 go\r\n")
            if self._kind == "reset":
                await reader.readexactly(SOME)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET
                )
                writer.transport.abort()
                return False
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 2.0.0 taken\r\n")
        elif verb == b"QUIT":
            writer.write(b"221 bye\r\n")
            return False
        else:
            writer.write(b"250 ok\r\n")
        return True


class Upstream:
    """
    Such an upstream as a child process; nothing at all where *kind* is ``refuse``.

    :param port: where it listens.
    """

    def __init__(self, kind: str, port: int) -> None:
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        if kind != "refuse":
            command = [sys.executable, "-m", "benchmarks.upstreams", kind, "--port", str(port)]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert self.process.stdout is not None
            self.process.stdout.readline()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


async def _serve(kind: str, port: int) -> None:
    server = await asyncio.start_server(
        _Upstream(kind).talk, "127.0.0.1", port, backlog=1024, limit=1 << 20
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[kind for kind in KINDS if kind != "refuse"])
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(_serve(given.kind, given.port))


if __name__ == "__main__":
    main()
