#!/usr/bin/env python3
"""A stop on a busy machine without netlink: busy.py CONNECTIONS PROGRAM

In a network namespace of its own, in which so many connections were closed a moment ago, runs the program (the fixture `web`, by its path and name)
without netlink and under strace(1), sends it requests over 64 connections, stops it in the middle, and says on one
line: its exit code, how many requests were answered and lost, the seconds that the stop took, and how often the kernel's
table of sockets was read, by the bytes of it. Needs root.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

if os.environ.get("BUSY") != "1":
    os.execvpe("unshare", ["unshare", "-n", sys.executable, __file__, *sys.argv[1:]], dict(os.environ, BUSY="1"))

count, program = int(sys.argv[1]), sys.argv[2:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listener = socket.create_server(("127.0.0.1", 9), backlog=4096)
for number in range(count):
    # Of different addresses: there are not enough ports for all at one. Closed at once: what has been
    # closed is listed for a minute (TIME_WAIT), and takes no descriptor.
    with socket.socket() as other:
        other.bind((f"127.0.1.{1 + number // 10_000}", 0))
        other.connect(("127.0.0.1", 9))
        accepted = listener.accept()[0]
    accepted.close()
size = len(open("/proc/net/tcp").read())

log = tempfile.NamedTemporaryFile("r", suffix=".strace")
without = os.path.join(os.path.dirname(os.path.abspath(__file__)), "without.py")
strace = ["strace", "-f", "-qq", "-y", "-e", "trace=read", "-o", log.name]
server = subprocess.Popen(
    [*strace, sys.executable, without, "netlink", *program],
    env=dict(os.environ, ADDR="127.0.0.1:0", TIMEOUT="20s", GRACEFUL_GRACE_PERIOD="none"),
    stderr=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    stdin=subprocess.PIPE,
    text=True,
)
line = server.stderr.readline()
port = int(line.rsplit(":", 1)[1])
children = subprocess.run(["pgrep", "-P", str(server.pid)], capture_output=True, text=True, check=True)
pid = int(children.stdout.split()[0])
threading.Thread(target=server.stderr.read, daemon=True).start()

answered, lost = [0], []
stopping = threading.Event()


def client():
    stream = None
    while True:
        try:
            stream = stream or socket.create_connection(("127.0.0.1", port), 20)
        except ConnectionRefusedError:
            return
        try:
            stream.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"fine"):
                part = stream.recv(4096)
                if not part:
                    raise EOFError(answer)
                answer += part
        except (OSError, EOFError) as error:
            lost.append(repr(error))
            return
        answered[0] += 1
        if b"connection: close" in answer:
            stream.close()
            stream = None
            if stopping.is_set():
                return
        time.sleep(0.005)


clients = [threading.Thread(target=client) for _ in range(64)]
for each in clients:
    each.start()
while answered[0] < 500:
    time.sleep(0.01)
stopping.set()
start = time.monotonic()
os.kill(pid, signal.SIGTERM)
code = server.wait(60)
took = time.monotonic() - start
for each in clients:
    each.join()
read = sum(int(size) for size in re.findall(r"read\(\d+<[^>]*/net/tcp>.*\) = (\d+)", log.read()))
print(f"{code} {answered[0]} {len(lost)} {took:.3f} {read / size:.2f}", flush=True)
