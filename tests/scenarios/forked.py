"""
``mailproxy`` for shells that call it often: forked from a process that has imported it.

Most of what a command takes is to start Python and to import. ``python -m tests.scenarios.forked
SOCKET`` does that once, and then runs each command in a child of its own, with the arguments,
directory, environment, umask and open files of the shell that called. :data:`CALLER` is what the
shell runs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from importlib import import_module

#: What commands import when they run only.
IMPORTED_LATER = (
    *("mailproxy.client", "mailproxy.config_secrets", "encodings.idna", "zoneinfo"),
    *("rich.console", "rich.progress", "rich.table", "rich.text"),
)

#: Hands its own call over and ends as the command does; needs nothing that is slow to import.
CALLER = """\
import json, os, socket, sys
umask = os.umask(0)
call = {"argv": sys.argv[2:], "cwd": os.getcwd(), "env": dict(os.environ), "umask": umask}
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps(call).encode() + b"\\n")
    status = server.recv(1)
sys.exit(status[0] if status else 70)
"""


def serve(path: str) -> None:
    """Answer calls, one child each; until it is killed."""
    import mailproxy.__main__ as command

    group = command.group()
    with group.make_context("mailproxy", [], resilient_parsing=True) as context:
        for name in group.list_commands(context):
            group.get_command(context, name)
    for later in IMPORTED_LATER:
        import_module(later)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        while True:
            caller, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(caller)
            caller.close()


def _answer(caller: socket.socket) -> None:
    """Run what *caller* wants in this process, and end it."""
    from mailproxy.__main__ import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(caller, 1, 3)
    call = json.loads(caller.makefile().readline())
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(call["cwd"])
    os.umask(call["umask"])
    os.environ.clear()
    os.environ.update(call["env"])
    sys.argv = ["mailproxy", *call["argv"]]
    status = 1
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.sendall(bytes([status]))
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
