"""Reads segments as LAYOUT.md describes them, with nothing but Python's standard library.

Usage: layout_reader.py LAYOUT.md NAME COMMAND [ARGUMENT...]

It only looks: it maps for reading, and takes no place. The offsets come out of the tables of
LAYOUT.md, so a page that has become wrong makes its readers fail. It answers in lines of words:

    describe                  the header, participants and objects
    records OBJECT COUNT      so many records with their sequence numbers, following the ring
    cells OBJECT COUNT        a ring of cells, and so many items with their sequence numbers
    broadcast OBJECT          a broadcast ring, and all items until the producer's end is closed
    latest OBJECT COUNT       so many newer versions of a value
    queue OBJECT              seats and what waits in a queue
    sleepers OBJECT           the indexes of those who sleep on a latest value
    block OBJECT NUMBER       a block of a pool
    hold                      nothing, until its input ends

A word is read by one load of its size, since it is an item of a memoryview of that type. Python
has no fences; on x86-64 loads are not reordered with loads.
"""

import fcntl
import mmap
import os
import sys
import time

SIZES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
PHASES = ["free", "held", "transit", "closed"]


def tables(path):
    """The fields of each section of the page: name to offset and type."""
    sections, fields = {}, None
    with open(path, encoding="utf-8") as page:
        for line in page:
            if line.startswith("#"):
                fields = None
                title = line.strip("# \n")
            elif line.replace(" ", "").startswith("|offset|type|field|"):
                fields = sections.setdefault(title, {})
            elif fields is not None and line.startswith("| ") and line[2].isdigit():
                offset, kind, field = [cell.strip() for cell in line.split("|")[1:4]]
                fields[field] = (int(offset), kind)
    return sections


def rounded(number, to):
    return -(-number // to) * to


class Part:
    """A piece of a segment whose fields have names."""

    def __init__(self, segment, section, base):
        self.segment, self.fields, self.base = segment, segment.sections[section], base

    def at(self, field):
        return self.base + self.fields[field][0]

    def __getattr__(self, field):
        offset, kind = self.fields[field]
        return self.segment.load(self.base + offset, kind)


class Segment:
    def __init__(self, page, name):
        self.sections = tables(page)
        path = f"/dev/shm/shmring.{name}.ring"
        while True:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            here, there = os.fstat(fd), os.stat(path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                break
            os.close(fd)
        assert here.st_uid == os.geteuid() and here.st_mode & 0o7777 == 0o600
        self.map = mmap.mmap(fd, here.st_size, mmap.MAP_SHARED, mmap.PROT_READ)
        self.views = {kind: memoryview(self.map).cast(size) for kind, size in SIZES.items()}
        self.header = Part(self, "Segment header", 0)
        assert self.header.magic.to_bytes(8, "little") == b"SHMRING\0"
        assert self.header.version == 4
        assert self.header.size <= here.st_size

    def load(self, offset, kind):
        size = int(kind[1:]) // 8
        assert offset % size == 0
        return self.views[kind][offset // size]

    def bytes(self, offset, length):
        return bytes(self.views["u8"][offset : offset + length])

    def end(self, section):
        return self.sections[section]["end"][0]

    def participants_at(self):
        return self.end("Segment header")

    def participants(self):
        for index in range(self.header.participants):
            base = self.participants_at() + index * self.end("Participant")
            entry = Part(self, "Participant", base)
            if entry.state & 0xFF:
                yield index, entry

    def object_entry(self, number):
        base = self.participants_at() + self.header.participants * self.end("Participant")
        return Part(self, "Object", base + number * self.end("Object"))

    def objects(self):
        for number in range(self.header.objects):
            entry = self.object_entry(number)
            if entry.state & 0xFF == 2:
                yield number, entry

    def object(self, number, kind, section):
        entry = self.object_entry(number)
        assert entry.state & 0xFF == 2 and entry.kind == kind
        assert entry.offset % 128 == 0 and entry.offset + entry.size <= self.header.size
        return Part(self, section, entry.offset)


def role(word):
    return f"{PHASES[word >> 56]} {word >> 32 & 0xFFFFFF} {word & 0xFF}"


def describe(segment):
    header = segment.header
    print("segment", header.size, header.participants, header.objects, header.bells)
    print("repair", header.repair_lock)
    for index, entry in segment.participants():
        state = entry.state
        print("participant", index, state >> 32, state >> 8 & 0xFFFFFF, state & 0xFF, end=" ")
        print(entry.start_time, entry.namespace, entry.bell, entry.armed & 3)
    for number, entry in segment.objects():
        print("object", number, entry.kind, entry.size, entry.state >> 32 & 0xFF)
        if entry.kind == 1:
            ring = segment.object(number, 1, "Ring of records")
            print("ring", ring.capacity, ring.policy, ring.sent, ring.tail - ring.head)
            _, taken, missed = account_of(segment, ring)
            print("lost", ring.lost, "taken", taken, "missed", missed)
            print("producer", role(ring.producer), ring.producer_destination)
            print("consumer", role(ring.consumer), ring.consumer_destination)
        if entry.kind == 6:
            latest = segment.object(number, 6, "Latest value")
            print("latest", latest.limit, latest.slots, latest.form, latest.newest)
            print("writer", role(latest.writer), latest.writer_destination)


def account_of(segment, ring):
    """The head of a ring, and what was taken and missed before it."""
    first, size = ring.at("accounts"), segment.end("Account")
    while True:
        head = ring.head
        both = [Part(segment, "Account", first + which * size) for which in (0, 1)]
        counts = both[0] if both[0].head == head else both[1]
        taken, missed = counts.taken, counts.missed
        if ring.head == head:
            return head, taken, missed


def records(segment, number, count):
    ring = segment.object(number, 1, "Ring of records")
    capacity, data = ring.capacity, ring.at("data")
    position, taken, missed = account_of(segment, ring)
    sequence = taken + missed
    while count:
        place = position % capacity
        header = segment.load(data + place, "u64")
        if header == 0:
            time.sleep(0.0005)
            continue
        kind, tag, length = header >> 56, header >> 32 & 0xFFFFFF, header & 0xFFFFFFFF
        assert kind in (1, 2, 3, 4) and tag == position // 8 % 2**24
        if kind == 4:
            more = (length - missed) % 2**32
            sequence, missed, position = sequence + more, missed + more, position + 8
            continue
        assert place + 8 + rounded(length, 8) <= capacity
        payload = segment.bytes(data + place + 8, length)
        assert ring.head <= position, "it was released, and may have been overwritten"
        position += 8 + rounded(length, 8)
        if kind == 3:
            assert position % capacity == 0
            print("pad")
            continue
        count -= 1
        sequence += 1
        if kind == 1:
            print("bytes", sequence - 1, payload.hex())
        else:
            message(segment, payload)


def message(segment, payload):
    fields = segment.sections["Message"]

    def entry(number, field):
        offset, kind = fields[field]
        start = 8 + number * fields["end"][0] + offset
        return int.from_bytes(payload[start : start + int(kind[1:]) // 8], "little")

    blocks = int.from_bytes(payload[:8], "little")
    print("message", blocks, payload[8 + blocks * fields["end"][0] :].hex())
    for number in range(blocks):
        handle = ("pool", "block", "generation", "carrier", "put")
        print("handle", *(entry(number, field) for field in handle))


def cells(segment, number, count):
    ring = segment.object(number, 3, "Ring of cells")
    capacity, item_len = ring.capacity, ring.item_len
    label = segment.bytes(ring.at("label"), ring.label_len).decode()
    print("cells", capacity, item_len, ring.item_align, ring.policy, label)
    print("counters", ring.tail, ring.lost, ring.head)
    print("producer", role(ring.producer), ring.producer_destination)
    print("consumer", role(ring.consumer), ring.consumer_destination)
    marks = data = ring.at("data")
    if ring.policy == 2:
        data += rounded(8 * capacity, 128)
    position = ring.head
    while count:
        tail = ring.tail
        assert 0 <= tail - ring.head <= capacity
        if position == tail:
            time.sleep(0.0005)
            continue
        cell = position % capacity
        sequence = position
        if ring.policy == 2:
            sequence += segment.load(marks + 8 * cell, "u64")
        item = segment.bytes(data + cell * item_len, item_len)
        assert ring.head <= position, "it was released, and may have been overwritten"
        print("cell", sequence, item.hex())
        position, count = position + 1, count - 1


def broadcast(segment, number):
    ring = segment.object(number, 4, "Broadcast ring")
    capacity, data = ring.capacity, ring.at("end") + ring.places * segment.end("Place of a broadcast ring")
    print("broadcast", capacity, ring.places, ring.policy)
    print("counters", ring.sent, ring.dropped, ring.lost, ring.tail - ring.last, flush=True)
    for index in range(ring.places):
        base = ring.at("end") + index * segment.end("Place of a broadcast ring")
        place = Part(segment, "Place of a broadcast ring", base)
        if place.kind:
            kind = ["", "lossless", "lossy"][place.kind]
            print("place", index, role(place.role), kind, place.expected, ring.tail - place.cursor)
    fields = segment.sections["Record of a broadcast ring"]
    sequence_at, value_at = fields["sequence"][0], fields["value"][0]
    position, expected = ring.oldest, None
    while True:
        closed = PHASES[ring.producer >> 56] == "closed"
        place = position % capacity
        header = segment.load(data + place, "u64")
        kind, tag, length = header >> 56, header >> 32 & 0xFFFFFF, header & 0xFFFFFFFF
        sequence = value = None
        if kind == 1 and place + value_at + rounded(length, 8) <= capacity:
            sequence = segment.load(data + place + sequence_at, "u64")
            value = segment.bytes(data + place + value_at, length)
        oldest = ring.oldest
        if oldest > position:
            position = oldest
            continue
        if header == 0:
            if closed:
                return
            time.sleep(0.0005)
            continue
        assert kind in (1, 2) and tag == position // 8 % 2**24
        if kind == 2:
            assert place + 8 + length == capacity
            position += 8 + length
            continue
        assert value is not None and length <= capacity // 2 - 16
        missed = 0 if expected is None else sequence - expected
        assert missed >= 0
        print("item", sequence, missed, value.hex())
        expected = sequence + 1
        position += value_at + rounded(length, 8)


def latest(segment, number, count):
    value = segment.object(number, 6, "Latest value")
    start = segment.sections["Slot of a latest value"]["value"][0]
    stride = rounded(start + value.limit, 64)
    seen = 0
    while count:
        version = value.newest
        if version <= seen:
            time.sleep(0.0001)
            continue
        slot = Part(segment, "Slot of a latest value", value.at("data") + version % value.slots * stride)
        length = slot.length
        copy = segment.bytes(slot.at("value"), min(length, value.limit))
        stamp = slot.stamp
        assert stamp >= version
        if stamp != version:
            continue
        assert length <= value.limit
        seen, count = version, count - 1
        print("value", version, copy.hex())


def queue(segment, number):
    queue = segment.object(number, 5, "Queue")
    print("queue", queue.slots, queue.limit, queue.seats, queue.policy)
    print("counters", queue.redelivered, queue.skipped, queue.aborted, queue.lost)
    base, data = queue.base, queue.at("data")
    for seat in range(2 * queue.seats):
        word = segment.load(data + 16 * seat, "u64")
        if word >> 56:
            print("producer" if seat < queue.seats else "consumer", seat % queue.seats, role(word))
    cells = 1 << (queue.slots - 1).bit_length()
    lists = base + rounded(data - base + 2 * 16 * queue.seats, 128)
    slots = base + rounded(lists - base + 2 * 8 * cells, 128)
    start = segment.sections["Slot of a queue"]["value"][0]
    stride = rounded(start + queue.limit, 64)
    for name, first, state, at in [
        ("free", lists + 8 * cells, 1, queue.free_head),
        ("ready", lists, 3, queue.ready_head),
    ]:
        count = 0
        while True:
            cell = segment.load(first + at % cells * 8, "u64")
            if cell >> 20 != at:
                assert cell >> 20 == at - cells
                break
            slot = Part(segment, "Slot of a queue", slots + (cell & 0xFFFFF) * stride)
            word = slot.word
            if word >> 20 == at and word & 0xF == state:
                count += 1
                if state == 3:
                    print("item", word >> 12 & 0xFF, word >> 4 & 0xFF, slot.producer, end=" ")
                    print(slot.sequence, segment.bytes(slot.at("value"), slot.length).hex())
            at += 1
        print(name, count)


def sleepers(segment, number):
    value = segment.object(number, 6, "Latest value")
    words = [segment.load(value.at("sleepers") + 8 * word, "u64") for word in range(4)]
    print("sleepers", *(bit for bit in range(256) if words[bit // 64] >> bit % 64 & 1))


def block(segment, number, which):
    pool = segment.object(number, 2, "Pool of blocks")
    bitmap = rounded(-(-pool.blocks // 64) * 8, 64)
    carriers = pool.at("bitmap") + bitmap
    controls = carriers + pool.carriers * segment.end("Carrier")
    first = segment.sections["Control entry of a block"]["holds"][0]
    rows = rounded(pool.participants, 8)
    control = rounded(first + rows + rounded(2 * pool.carriers, 8), 64)
    payloads = controls + pool.blocks * control
    entry = Part(segment, "Control entry of a block", controls + which * control)
    word = entry.word
    state = ["free", "loaned", "shared", "moving"][word >> 8 & 3]
    print("block", state, word & 0xFF, word >> 10 & 0x3FFFFF, pool.block_len, end=" ")
    payload = payloads + which * rounded(pool.block_len, 64)
    print(segment.bytes(payload, entry.length).hex())
    counts = segment.bytes(entry.at("holds"), rows + 2 * pool.carriers)
    print("holds", *counts[: pool.participants])
    print("carried", *(put - got for put, got in zip(counts[rows::2], counts[rows + 1 :: 2])))


def main(page, name, command, *arguments):
    segment = Segment(page, name)
    arguments = [int(argument) for argument in arguments]
    if command == "hold":
        print("held", flush=True)
        sys.stdin.read()
    else:
        commands = (describe, records, cells, broadcast, latest, queue, sleepers, block)
        {run.__name__: run for run in commands}[command](segment, *arguments)


main(*sys.argv[1:])
