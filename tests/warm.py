"""`python train.py …` many times over, each in a fork of this process, which has imported what that would import.

Importing takes seconds of the processor, and the tests start the command about a hundred times. A fork is a process of
its own: with the command line, folder, environment and output that it is given, it runs train.py as the interpreter
would. Requests come by the socket whose number is the first argument, one after the other; the end of it is the end.

The writer of each of these commands is a fork too, of a process that waits beside this one. The other two arguments are
the ends of the socket by which it is asked.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from forked import Writer, fork_writers

import shrinkage.report.__main__
import shrinkage.report.figures
import shrinkage.report.page
import shrinkage.runs.export
import shrinkage.study
import shrinkage.sweeps.callback
import shrinkage.tracking.client
import shrinkage.tracking.writer
import shrinkage.training.run

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


if __name__ == "__main__":
    requests, forker, theirs = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    if not os.fork():
        requests.close()
        forker.close()
        fork_writers(theirs)
    theirs.close()
    shrinkage.tracking.client.subprocess = SimpleNamespace(
        PIPE=subprocess.PIPE, Popen=lambda command, stderr, env, **_: Writer(forker, stderr, env)
    )
    arguments = serve(requests)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    also = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.argv, sys.path[:1] = [str(TRAIN), *arguments], [str(TRAIN.parent), *also]
    runpy.run_path(str(TRAIN), run_name="__main__")
