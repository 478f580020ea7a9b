#!/usr/bin/env python3
"""Handshakes that never complete: half_open.py HERE PORT SOURCE

Sends SYNs to HERE:PORT from an address that nobody has, as a port scan does: the answers go nowhere. Needs a raw socket.
"""

import socket
import struct
import sys

here, port, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for from_port in range(40_000, 40_005):
    addresses = socket.inet_aton(source) + socket.inet_aton(here)
    # The SYN alone, with room for 64 kB.
    tcp = struct.pack("!HHIIBBHHH", from_port, port, 1, 0, 5 << 4, 2, 65_535, 0, 0)
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses
    raw.sendto(ip + tcp, (here, port))
print("sent", flush=True)
