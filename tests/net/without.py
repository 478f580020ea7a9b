#!/usr/bin/env python3
"""Runs a program on a kernel that lacks something: without.py netlink|bindtoifindex COMMAND…

A seccomp filter (seccomp(2)) answers the system call with an error: socket(AF_NETLINK, …), as under systemd's
RestrictAddressFamilies=, or setsockopt(…, SO_BINDTOIFINDEX, …), as before Linux 5.0.
"""

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SOCKET, SETSOCKOPT = {"x86_64": (41, 54), "aarch64": (198, 208)}[platform.machine()]
AF_NETLINK, EAFNOSUPPORT = 16, 97
SOL_SOCKET, SO_BINDTOIFINDEX, ENOPROTOOPT = 1, 62, 92
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# struct seccomp_data: the number of the call, the architecture, the address, the arguments of 8 bytes each.
NUMBER, ARGUMENTS = 0, 16

LACKS = {
    "netlink": ([(NUMBER, SOCKET), (ARGUMENTS, AF_NETLINK)], EAFNOSUPPORT),
    "bindtoifindex": (
        [(NUMBER, SETSOCKOPT), (ARGUMENTS + 8, SOL_SOCKET), (ARGUMENTS + 16, SO_BINDTOIFINDEX)],
        ENOPROTOOPT,
    ),
}


def program(conditions, error):
    """Where all conditions hold, the error; else the call."""
    lines = []
    for number, (offset, value) in enumerate(conditions):
        to_the_end = 2 * (len(conditions) - number) - 1
        lines += [(LOAD, 0, 0, offset), (JUMP_IF_EQUAL, 0, to_the_end, value)]
    return lines + [(RETURN, 0, 0, ERRNO | error), (RETURN, 0, 0, ALLOW)]


def main():
    lines = program(*LACKS[sys.argv[1]])
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    packed = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, packed, 0, 0):
        sys.exit(os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
