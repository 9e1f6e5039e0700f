"""Where reading processes come from: an interpreter that has imported the parsers once, and forks for each file.

Importing takes most of a second, reading a school's file a tenth of that. The nest never sees a byte of a file: the
pipes to and from a child are the child's alone, each child reads one file, and none outlives the nest or its owner.
"""

import gc
import os
import select
import signal
import socket
import sys

from screening.reading import child
from screening.reading.wire import BEGIN


def main(link: socket.socket) -> int:
    """Serves its owner until the link ends.

    BEGIN comes with three files (input, output, status) and is answered with the child's id; KILL names a child. When
    a child has ended, its exit code (negative: a signal) is written to its status file as text.
    """
    gc.freeze()  # what was imported stays shared between all children
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([link.fileno(), woken], [], [])
        if link.fileno() in ready and not _served(link, children):
            return 0
        if woken in ready:
            os.read(woken, 4096)
            _reap(children)


def _served(link: socket.socket, children: dict[int, int]) -> bool:
    """Does what one message asks; False when the owner is gone."""
    message, files, _, _ = socket.recv_fds(link, 16, 3)
    if not message:
        return False
    if message[:1] == BEGIN:
        pid = _fork(*files)
        children[pid] = files[2]
        for file in files[:2]:
            os.close(file)
        link.sendall(pid.to_bytes(4, "big"))
    elif (pid := int.from_bytes(message[1:], "big")) in children:  # not reaped yet, so the id is still its own
        os.kill(pid, signal.SIGKILL)
    return True


def _fork(source: int, out: int, _: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(source, 0)
        os.dup2(out, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os._exit(child.main())
    finally:
        os._exit(1)


def _reap(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        file = children.pop(pid)
        try:
            os.write(file, str(os.waitstatus_to_exitcode(status)).encode())
        except BrokenPipeError:
            pass  # nobody asks how it ended
        finally:
            os.close(file)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as to_owner:
        sys.exit(main(to_owner))
