"""An agent that leaves 60 processes: a third plain children, a third in sessions of their own, a third double-forked.
Writes its number and theirs into the file named on its command line when all of them run."""

import os
import signal
import sys

# Dies of an interrupt at once: the figure is the time of clauded, not that of an interpreter.
signal.signal(signal.SIGINT, signal.SIG_DFL)
pipe, written = os.pipe()


def rest():
    os.write(written, f"{os.getpid()}\n".encode())
    while True:
        signal.pause()


for number in range(60):
    if os.fork() == 0:
        if number % 3:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if number % 3 == 2 and os.fork():
            os._exit(0)
        rest()
text = b""
while text.count(b"\n") < 60:
    text += os.read(pipe, 4096)
draft = sys.argv[1] + ".new"
with open(draft, "w") as file:
    file.write(f"{os.getpid()}\n{text.decode()}")
os.rename(draft, sys.argv[1])
while True:
    signal.pause()
