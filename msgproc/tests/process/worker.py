"""A worker in another language, from PROTOCOL.md alone. It counts, and squares lists of floats."""

import array
import mmap
import os
import socket
import struct
import sys
import time


class Late(Exception):
    pass


class Unknown(Exception):
    pass


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError("too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def string(self):
        return self.take(self.varint()).decode()

    def boolean(self):
        return self.take(1)[0] == 1

    def end(self):
        if self.at != len(self.data):
            raise ValueError("%d bytes are left over" % (len(self.data) - self.at))


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(text):
    text = text.encode()
    return varint(len(text)) + text


def failure(kind, at, message):
    return varint(kind) + string(at) + string(message) + varint(0) + b"\0\0"


class Channel:
    def __init__(self):
        if sys.argv[-1] != "--msgproc-control=3":
            sys.exit("this program is a worker")
        self.socket = socket.socket(fileno=3)

    def receive(self):
        data, control, _flags, _address = self.socket.recvmsg(208 << 10, socket.CMSG_SPACE(253 * 4))
        if not data:
            return None
        fds = array.array("i")
        for level, kind, payload in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload)
        kind, length = struct.unpack("<BH", data[:3])
        header, rest = data[3 : 3 + length], data[3 + length :]
        notes = 0
        if kind & 2:
            notes, rest = struct.unpack("<I", rest[:4])[0], rest[4:]
        if kind & 1:
            (length,) = struct.unpack("<Q", rest)
            rest = os.pread(fds[-1], length, 0)
            os.close(fds.pop())
        return Reader(header), Reader(rest[: len(rest) - notes]), fds

    def send(self, header, body=b""):
        head = struct.pack("<BH", 0, len(header)) + header
        if len(head) + len(body) <= 64 << 10:
            self.socket.send(head + body)
            return
        aside = os.memfd_create("body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(aside, body)
        seals = 1 | 2 | 4  # no more seals, no shrinking, no growing
        import fcntl

        fcntl.fcntl(aside, 1033, seals)  # F_ADD_SEALS
        head = struct.pack("<BH", 1, len(header)) + header + struct.pack("<Q", len(body))
        socket.send_fds(self.socket, [head], [aside])
        os.close(aside)


def greet(channel):
    header, body, fds = channel.receive()
    assert header.varint() == 2, "no greeting"
    oldest, newest, name = body.varint(), body.varint(), body.string()
    frontend, restarts = body.varint(), body.varint()
    assert frontend == os.getppid()
    if not oldest <= 1 <= newest:
        channel.send(varint(1), failure(0, "its arrival", "only version 1 is spoken"))
        sys.exit(1)
    page = mmap.mmap(fds[0], 6216)  # the first descriptor of the greeting
    header, body, _ = channel.receive()
    assert header.varint() == 3, "no state"
    first = body.varint()
    body.end()
    return name, restarts, first, page


def main():
    channel = Channel()
    name, restarts, total, page = greet(channel)
    finished = [0, 0]
    commands = ["add", "squares", "who"]
    version = 2 if "--of-another-version" in sys.argv else 1
    channel.send(varint(0) + varint(version), varint(len(commands)) + b"".join(map(string, commands)))
    while True:
        message = channel.receive()
        if message is None:
            return
        header, body, _ = message
        kind = header.varint()
        if kind == 1:
            return
        if kind == 4:
            channel.send(varint(2) + varint(header.varint()))
            continue
        call, command, wants_reply = header.varint(), header.string(), header.boolean()
        lane = 1 if header.boolean() else 0
        _attempt, until = header.varint(), header.varint()
        header.end()
        try:
            if until and time.monotonic_ns() >= until:
                raise Late("it did not begin")
            if command == "add":
                total += body.varint()
                body.end()
                result = varint(total)
                channel.send(varint(4), string("now %d" % total))
            elif command == "squares":
                numbers = struct.unpack("<%dd" % (n := body.varint()), body.take(8 * n))
                body.end()
                result = varint(n) + struct.pack("<%dd" % n, *(x * x for x in numbers))
            elif command == "who":
                result = string(name) + varint(restarts)
            else:
                raise Unknown("no such command")
            if wants_reply:
                channel.send(varint(2) + varint(call), result)
        except (ValueError, Late, Unknown) as error:
            kind = {Late: 7, Unknown: 2}.get(type(error), 3)
            if wants_reply:
                channel.send(varint(3) + varint(call), failure(kind, command, str(error)))
            else:
                channel.send(varint(5), failure(kind, command, str(error)))
        finished[lane] += 1
        page[48 + 8 * lane : 56 + 8 * lane] = struct.pack("=Q", finished[lane])


main()
