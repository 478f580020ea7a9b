#!/usr/bin/env python3
"""A network with a round-trip time: far.py MILLISECONDS

Makes a network namespace that is so far away, and says on one line what it is called, the addresses here and the
addresses there (IPv4, IPv6). It is gone when this program's standard input ends. A TUN device on either side, and this
program between them, which hands every packet on when half the round trip is over. Needs root and /dev/net/tun.
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000


def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    return device


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Way:
    """One direction. The delay is the same for all packets, so they leave in the order in which they come."""

    def __init__(self, source, sink, delay):
        self.source, self.sink, self.delay, self.queue = source, sink, delay, collections.deque()

    def take(self):
        while True:
            try:
                self.queue.append((time.monotonic() + self.delay, os.read(self.source, 65536)))
            except BlockingIOError:
                return

    def give(self, now):
        while self.queue and self.queue[0][0] <= now:
            _, packet = self.queue.popleft()
            try:
                os.write(self.sink, packet)
            except OSError:
                pass  # A device that is full or down drops packets, as networks do.


def relay(here, there, delay):
    ways = [Way(here, there, delay), Way(there, here, delay)]
    while True:
        due = [way.queue[0][0] for way in ways if way.queue]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        ready = select.select([sys.stdin, here, there], [], [], wait)[0]
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096):
            return
        for way in ways:
            if way.source in ready:
                way.take()
            way.give(time.monotonic())


def main():
    delay = float(sys.argv[1]) / 2_000
    number = os.getpid() % 0x4000
    namespace, near, far = f"far{os.getpid()}", f"fh{number}", f"ft{number}"
    # 198.18.0.0/15 is for measurements (RFC 2544), fd00::/8 for private use (RFC 4193).
    prefix4, prefix6 = f"198.18.{number >> 6}.{number % 64 * 4}", f"fd00:{number:x}::"
    base = int(prefix4.rsplit(".", 1)[1])
    here4, there4 = (f"{prefix4.rsplit('.', 1)[0]}.{base + host}" for host in (1, 2))
    here, there = tun(near), tun(far)
    ip("netns", "add", namespace)
    try:
        ip("link", "set", far, "netns", namespace)
        inside = ["-n", namespace]
        for words, device, v4, v6 in (([], near, here4, f"{prefix6}1"), (inside, far, there4, f"{prefix6}2")):
            ip(*words, "addr", "add", f"{v4}/30", "dev", device)
            ip(*words, "-6", "addr", "add", f"{v6}/64", "dev", device, "nodad")
            ip(*words, "link", "set", device, "up", "txqueuelen", "20000")
        ip(*inside, "link", "set", "lo", "up")
        print(namespace, here4, f"{prefix6}1", there4, f"{prefix6}2", flush=True)
        relay(here, there, delay)
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=False)


if __name__ == "__main__":
    main()
