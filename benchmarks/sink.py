"""
An SMTP server that answers everything with yes and takes little time over it.

    python -m benchmarks.sink --count FILE [--certificate FILE]

Prints its port. With a certificate it speaks TLS from the first byte and offers AUTH. The number of
messages taken stands in the first eight bytes of FILE. :class:`Taking` is the conversation, for
those who want to know more about each message.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_EHLO = b"250-sink\r\n250-PIPELINING\r\n%s250 8BITMIME\r\n"
_AUTH = b"250-AUTH PLAIN LOGIN\r\n"
_END = b"\r\n.\r\n"

#: Answers to what is not answered with a plain yes.
_ANSWERS = {b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n", b"AUTH": b"235 2.7.0 in\r\n"}


class Taking(asyncio.Protocol):
    """
    One conversation.

    :param took: is called with each message, its final dot left out, before it is answered.
    :param login: whether AUTH is offered.
    """

    def __init__(self, took: Callable[[bytes], None], login: bool = False) -> None:
        self._took = took
        self._ehlo = _EHLO % (_AUTH if login else b"")
        self._read = bytearray()
        self._in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        seen = max(0, len(self._read) - len(_END))
        self._read += data
        answers = []
        while answer := self._next(seen):
            answers.append(answer)
            seen = 0
        if answers:
            self._transport.write(b"".join(answers))
            if answers[-1] is _ANSWERS[b"QUIT"]:
                self._transport.close()

    def _next(self, seen: int) -> bytes:
        """
        The answer to the next command or message, empty if it is not there in full.

        :param seen: bytes in which no message ends.
        """
        if self._in_body:
            end = self._read.find(_END, seen)
            if end < 0:
                return b""
            self._took(bytes(self._read[:end]))
            del self._read[: end + len(_END)]
            self._in_body = False
            return b"250 2.0.0 taken\r\n"
        end = self._read.find(b"\r\n")
        if end < 0:
            return b""
        verb = bytes(self._read[:4]).upper()
        del self._read[: end + 2]
        self._in_body = verb == b"DATA"
        return self._ehlo if verb == b"EHLO" else _ANSWERS.get(verb, b"250 ok\r\n")


class Sink:
    """
    Such a server as a child process.

    :param directory: for its counter.
    :param certificate: PEM of a certificate and its key; None: it speaks in clear.
    """

    def __init__(self, directory: Path, certificate: bytes | None = None) -> None:
        self._count = directory / "sink.count"
        self._count.write_bytes(bytes(8))
        command = [sys.executable, "-m", "benchmarks.sink", "--count", str(self._count)]
        if certificate is not None:
            pem = directory / "sink.pem"
            pem.write_bytes(certificate)
            command += ["--certificate", str(pem)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def count(self) -> int:
        """Messages taken so far."""
        return int(struct.unpack("Q", self._count.read_bytes())[0])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


async def _serve(counter: mmap.mmap, certificate: Path | None) -> None:
    count = 0

    def took(message: bytes) -> None:
        nonlocal count
        count += 1
        struct.pack_into("Q", counter, 0, count)

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Taking(took, login=context is not None), "127.0.0.1", 0, ssl=context, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=Path, required=True)
    parser.add_argument("--certificate", type=Path)
    given = parser.parse_args()
    with given.count.open("r+b") as file, mmap.mmap(file.fileno(), 8) as counter:
        asyncio.run(_serve(counter, given.certificate))


if __name__ == "__main__":
    main()
