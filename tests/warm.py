"""`python train.py …` many times over, each in a fork of this process, which has imported what that would import.

Importing takes seconds of the processor, and the tests start the command about a hundred times. A fork is a process of
its own: with the command line, folder, environment and output that it is given, it runs train.py as the interpreter
would. Requests come by the socket whose number is the only argument, one after the other; the end of it is the end.

The writer of each of these commands is a fork too, of a process that waits beside this one.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import shrinkage.export
import shrinkage.report.__main__
import shrinkage.report.figures
import shrinkage.report.page
import shrinkage.study
import shrinkage.sweep
import shrinkage.tracking.client
import shrinkage.tracking.writer
import shrinkage.training

TRAIN = Path(__file__).parents[1] / "train.py"


def serve(requests: socket.socket) -> list[str]:
    """In a fork the arguments of its command; this process itself does not come back."""
    while True:
        content, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 2)
        if not content:
            os._exit(0)
        request = json.loads(content)
        child = os.fork()
        if not child:
            requests.close()
            for number, descriptor in enumerate(descriptors, start=1):
                os.dup2(descriptor, number)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["environment"])
            return request["arguments"]
        for descriptor in descriptors:
            os.close(descriptor)
        requests.sendall(b"%d\n" % child)
        _, status = os.waitpid(child, 0)
        requests.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


class Writer:
    """What `subprocess.Popen` gives who starts a writer."""

    def __init__(self, forker: socket.socket, command: list[str], *, stderr: TextIO, env: dict[str, str], **_: object):
        (read, stdin), (stdout, write) = os.pipe(), os.pipe()
        about = {"cwd": str(Path.cwd()), "environment": env}
        socket.send_fds(forker, [json.dumps(about).encode()], [read, write, stderr.fileno()])
        os.close(read)
        os.close(write)
        self.stdin, self.stdout = os.fdopen(stdin, "w", encoding="utf-8"), os.fdopen(stdout, encoding="utf-8")

    def wait(self) -> int:
        """Its answers have ended by now, and so has it."""
        return 0


def fork_writers() -> socket.socket:
    """By which to ask for one; a process of its own hears it, and ends when nobody is left to ask."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none is waited for
    while True:
        content, descriptors, *_ = socket.recv_fds(theirs, 1 << 20, 3)
        if not content:
            os._exit(0)
        if not os.fork():
            break
        for descriptor in descriptors:
            os.close(descriptor)
    theirs.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    request = json.loads(content)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    shrinkage.tracking.writer.main()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    requests = socket.socket(fileno=int(sys.argv[1]))
    forker = fork_writers()
    shrinkage.tracking.client.subprocess = SimpleNamespace(PIPE=subprocess.PIPE, Popen=partial(Writer, forker))
    arguments = serve(requests)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv, sys.path[0] = [str(TRAIN), *arguments], str(TRAIN.parent)
    runpy.run_path(str(TRAIN), run_name="__main__")
