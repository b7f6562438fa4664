"""Damaged records: cut short, extended, and with other bits and bytes, the simplest damage first, and the same in every run."""

import random
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

_SEED: Final = 11

_BYTES: Final = (0x00, 0x01, 0x7F, 0x80, 0xFF)
"""Bytes that are lengths, signs and ends of text in most formats."""

_FOREIGN: Final = (b"\0", b"not such a record", b"\xff" * 16, b"{}", b"[[[[[[[[", b"\x80" * 12, b"1e999")


class Mutation(NamedTuple):
    """A damaged record: what was done in words, and its bytes."""

    title: str
    content: bytes


def mutations(records: Sequence[bytes], count: int) -> list[Mutation]:
    """Return ``count`` damaged records of some that are right, the simplest damage first."""
    chance = random.Random(_SEED)  # noqa: S311 - the same in every run
    kinds = [
        _shortened(records, chance),
        _foreign(),
        _extended(records, chance),
        _with_a_byte(records, chance),
        _with_a_bit(records, chance),
        _with_a_gap(records, chance),
    ]
    simple = [list(islice(kind, max(1, count // 8))) for kind in kinds]
    several = _with_several_changes(records, chance)
    known = set(records)
    found = (damaged for damaged in chain(*simple, several) if damaged.content not in known)
    return list(islice(found, count))


def _places(records: Sequence[bytes], chance: random.Random) -> Iterator[int]:
    """Yield the place of the first record a few times, then those of any."""
    yield from [0] * 8
    while True:
        yield chance.randrange(len(records))


def _shortened(records: Sequence[bytes], chance: random.Random) -> Iterator[Mutation]:
    yield Mutation("no bytes at all", b"")
    for place in _places(records, chance):
        size = len(records[place])
        kept = chance.choice([1, size // 2, size - 1, size - 4, chance.randrange(max(1, size))])
        yield Mutation(f"the first {max(0, kept)} of {size} bytes of record {place}", records[place][: max(0, kept)])


def _foreign() -> Iterator[Mutation]:
    for content in _FOREIGN:
        yield Mutation(f"the bytes {content[:20]!r} of no such record", content)


def _extended(records: Sequence[bytes], chance: random.Random) -> Iterator[Mutation]:
    for place in _places(records, chance):
        added = chance.choice([b"\0", b"\0" * 8, b"\n", records[place], chance.randbytes(chance.randrange(1, 9))])
        yield Mutation(f"record {place} with {len(added)} bytes behind it, {added[:8]!r}", records[place] + added)


def _with_a_byte(records: Sequence[bytes], chance: random.Random) -> Iterator[Mutation]:
    for place in _places(records, chance):
        at, byte = chance.randrange(len(records[place]) or 1), chance.choice([*_BYTES, chance.randrange(256)])
        content = records[place][:at] + bytes([byte]) + records[place][at + 1 :]
        yield Mutation(f"record {place} with the byte {byte:#04x} at {at}", content)


def _with_a_bit(records: Sequence[bytes], chance: random.Random) -> Iterator[Mutation]:
    for place in _places(records, chance):
        at, bit = chance.randrange(len(records[place]) or 1), chance.randrange(8)
        changed = bytearray(records[place] or b"\0")
        changed[at] ^= 1 << bit
        yield Mutation(f"record {place} with bit {bit} of byte {at} flipped", bytes(changed))


def _with_a_gap(records: Sequence[bytes], chance: random.Random) -> Iterator[Mutation]:
    for place in _places(records, chance):
        at, size = chance.randrange(len(records[place]) or 1), chance.randrange(1, 9)
        if chance.random() < 0.5:
            yield Mutation(
                f"record {place} without its {size} bytes from {at} on",
                records[place][:at] + records[place][at + size :],
            )
        else:
            added = chance.randbytes(size)
            yield Mutation(
                f"record {place} with {added!r} put in at {at}", records[place][:at] + added + records[place][at:]
            )


def _with_several_changes(records: Sequence[bytes], chance: random.Random) -> Iterator[Mutation]:
    for place in _places(records, chance):
        changed, number = bytearray(records[place]), chance.choice([2, 2, 3, 5])
        for _ in range(number):
            at, way = chance.randrange(len(changed) or 1), chance.randrange(5)
            if way < 2 and changed:
                changed[at] = chance.choice([*_BYTES, chance.randrange(256)])
            elif way == 2:
                del changed[at : at + chance.randrange(1, 9)]
            elif way == 3:
                changed[at:at] = chance.randbytes(chance.randrange(1, 9))
            else:
                del changed[at + 1 :]
        yield Mutation(f"record {place} with {number} changes, {bytes(changed)[:40]!r}", bytes(changed))
