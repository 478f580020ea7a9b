#!/usr/bin/env python3
"""A client whose link goes: unplugged.py HERE THERE, in a network namespace of its own.

Makes a pair of virtual devices, HERE on this side, THERE in the namespace, and says "ready". Then reads lines:
"connect PORT silent|idle|tls-silent|tls-idle|http2" has a client connect, ask and read, and go idle, and says
"connected"; "unplug" takes the link down, and says "unplugged". Gone when standard input ends. Needs root.
"""

import os
import socket
import ssl
import subprocess
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
# :method GET, :scheme http, :path /, :authority x
HEADERS = b"\x82\x86\x84\x01\x01x"
SETTINGS_ACK = b"\0\0\0\4\1\0\0\0\0"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def read_exactly(stream, size):
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def ask_http2(stream):
    stream.sendall(PREFACE + frame(1, 5, 1, HEADERS))
    ended = acknowledged = False
    while not (ended and acknowledged):
        head = read_exactly(stream, 9)
        payload = read_exactly(stream, int.from_bytes(head[:3], "big"))
        if head[3] == 4 and not head[4] & 1:
            stream.sendall(SETTINGS_ACK)
        acknowledged |= head[3] == 4 and head[4] & 1 == 1
        ended |= head[3] in (0, 1) and head[4] & 1 == 1
        del payload


def ask(stream):
    stream.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"fine"):
        answer += stream.recv(4096)


def client(there, here):
    """In the namespace: connects as the lines say, and keeps what it has opened."""
    opened = []
    for line in sys.stdin:
        port, kind = line.split()
        stream = socket.create_connection((here, int(port)), 10, (there, 0))
        if kind.startswith("tls"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stream = context.wrap_socket(stream)
        if kind == "http2":
            ask_http2(stream)
        elif kind.endswith("idle"):
            ask(stream)
        opened.append(stream)
        print("connected", flush=True)


def main():
    here, there = sys.argv[1], sys.argv[2]
    if len(sys.argv) > 3:
        return client(there, here)
    name = f"graceful-unplugged-{os.getpid()}"
    device, other = f"gu{os.getpid()}a", f"gu{os.getpid()}b"
    ip("netns", "add", name)
    try:
        ip("link", "add", device, "type", "veth", "peer", "name", other, "netns", name)
        ip("addr", "add", f"{here}/30", "dev", device)
        ip("link", "set", device, "up")
        ip("-n", name, "addr", "add", f"{there}/30", "dev", other)
        ip("-n", name, "link", "set", other, "up")
        inside = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, __file__, here, there, "inside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        print("ready", flush=True)
        for line in sys.stdin:
            words = line.split()
            if words[0] == "connect":
                inside.stdin.write(" ".join(words[1:]) + "\n")
                inside.stdin.flush()
                print(inside.stdout.readline().strip() or "failed", flush=True)
            else:
                ip("-n", name, "link", "set", other, "down")
                print("unplugged", flush=True)
        inside.kill()
        inside.wait()
    finally:
        ip("netns", "del", name)


if __name__ == "__main__":
    main()
