"""Writer processes as forks of one that has imported MLflow, which takes each of them seconds of the processor."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TextIO


class Writer:
    """What `subprocess.Popen` gives who starts a writer. forker: by which to ask for it."""

    def __init__(self, forker: socket.socket, stderr: TextIO, env: dict[str, str]) -> None:
        (read, stdin), (stdout, write) = os.pipe(), os.pipe()
        about = {"cwd": str(Path.cwd()), "environment": env}
        socket.send_fds(forker, [json.dumps(about).encode()], [read, write, stderr.fileno()])
        os.close(read)
        os.close(write)
        self.stdin, self.stdout = os.fdopen(stdin, "w", encoding="utf-8"), os.fdopen(stdout, encoding="utf-8")

    def wait(self) -> int:
        """Its answers have ended by now, and so has it."""
        return 0


def fork_writers(requests: socket.socket) -> None:
    """Fork what is asked for, until nobody is left to ask; does not return."""
    from shrinkage.tracking.writer import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none is waited for
    while True:
        content, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 3)
        if not content:
            os._exit(0)
        if not os.fork():
            break
        for descriptor in descriptors:
            os.close(descriptor)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    request = json.loads(content)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    main()
    sys.stdout.flush()
    os._exit(0)
