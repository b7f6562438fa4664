"""Mutants of files: mutant n of a content is the same in every process. Independent of the rest of the tests."""

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any, Final

EXTREMES: Final[tuple[Any, ...]] = (
    *(0, -1, 1, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 10**30, -(2**63), 1e308, -0.5, float("nan")),
    *("", "0", "-1", "2147483648", "1000000000000", "9223372036854775807", "x" * 5000, "../../x", "\x1b[2J", "\ud800"),
    *(None, True, False, [], {}, [[]], [1000000, 1000000], {"a": {}}),
)
"""Values that take the place of a value in a JSON file."""

_TRIES: Final = 8


def mutated_bytes(content: bytes, number: int) -> bytes:
    """Return mutant ``number`` of any file: bits flipped, bytes set, cut out, doubled, or the end cut off."""
    draw = random.Random(f"bytes {number}")  # noqa: S311 - repeatable, not secret
    mutant = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        at = draw.randrange(len(mutant)) if mutant else 0
        size = draw.choice((1, 2, 4, 8, 64))
        match draw.randrange(6):
            case 0 | 1:
                if mutant:
                    mutant[at] ^= 1 << draw.randrange(8)
            case 2:
                mutant[at : at + size] = draw.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * len(mutant[at : at + size])
            case 3:
                del mutant[at : at + size]
            case 4:
                mutant[at:at] = mutant[at : at + size]
            case 5:
                del mutant[at:]
    return bytes(mutant)


def mutated_json(content: bytes, number: int) -> bytes:
    """Return mutant ``number`` of a JSON file: values replaced, keys removed, renamed or nested, or bytes changed."""
    draw = random.Random(f"json {number}")  # noqa: S311 - repeatable, not secret
    if draw.random() < 0.15:
        return mutated_bytes(content, number)
    tree = json.loads(content)
    for _ in range(draw.choice((1, 1, 1, 2))):
        for _ in range(_TRIES):  # an empty tree may have no place left
            places = list(_places(tree))
            if places:
                _change(*draw.choice(places), draw)
                break
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of each value."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def _change(container: Any, key: Any, draw: random.Random) -> None:
    value = container[key]
    match draw.randrange(8):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[str(key) + draw.choice(("", "x", ".", "/a"))] = container.pop(key)
        case 2:
            container[key] = [value]
        case 3 if isinstance(value, list):
            container[key] = value * draw.choice((2, 50))
        case 4 if isinstance(value, str) and value.lstrip("-").isdigit():
            container[key] = str(int(value) + draw.choice((-1, 1, 2**32, 10**15)))
        case 5:
            for _ in range(draw.choice((3, 100))):
                container[key] = {str(key): container[key]}
        case _:
            alike = [extreme for extreme in EXTREMES if type(extreme) is type(value)]
            container[key] = copy.deepcopy(draw.choice(alike if alike and draw.random() < 0.8 else EXTREMES))


def mutated_text(content: bytes, number: int) -> bytes:
    """Return mutant ``number`` of a text of lines, such as YAML or TOML: values replaced, lines cut, doubled or indented."""
    draw = random.Random(f"text {number}")  # noqa: S311 - repeatable, not secret
    if draw.random() < 0.3:
        return mutated_bytes(content, number)
    lines = content.decode().splitlines(keepends=True)
    for _ in range(draw.choice((1, 1, 1, 2))):
        at = draw.randrange(len(lines))
        line = lines[at]
        match draw.randrange(7):
            case 0:
                del lines[at : at + draw.choice((1, 1, 3))]
            case 1:
                lines.insert(draw.randrange(len(lines) + 1), line)
            case 2:
                lines[at] = draw.choice(("  ", "\t", "- ", "&a ", "*a ", "!!binary ", "[", "{", "'", "#")) + line
            case 3:
                lines[at] = line.lstrip()
            case _:
                words = list(re.finditer(r"[^\s:=,\[\]{}]+", line)) or [re.match("", line)]
                word = draw.choice(words)
                value = draw.choice((*EXTREMES, "~", "1e400", "0x10", "[" * 2000, "&a [*a]", "!!python/name:os.system"))
                text = value if isinstance(value, str) else json.dumps(value)
                assert word is not None
                lines[at] = line[: word.start()] + text + line[word.end() :]
        if not lines:
            break
    return "".join(lines).encode(errors="surrogatepass")


_NUMBER: Final = re.compile(rb"\d+")
_NUMPY_HEADER: Final = re.compile(rb"\x93NUMPY\x01\x00(..)(\{[^\x00]*?\}) *\n", re.DOTALL)


def mutated_array(content: bytes, number: int) -> bytes:
    """Return mutant ``number`` of an ``.npy`` file: its header declares another shape or dtype, or bytes are changed."""
    draw = random.Random(f"array {number}")  # noqa: S311 - repeatable, not secret
    header = _NUMPY_HEADER.match(content)
    if header is None or draw.random() < 0.5:
        return mutated_bytes(content, number)
    text = header[2]
    places = [
        *_NUMBER.finditer(text),
        *re.finditer(rb"'[<>|=]?[a-zA-Z]\d+'", text),
        *re.finditer(rb"True|False|\(.*\)", text),
    ]
    place = draw.choice(places)
    changes = (
        b"0",
        b"-1",
        b"1",
        b"7",
        b"4294967296",
        b"1000000000000",
        b"9223372036854775807",
        b"1" * 60,
        b"None",
        b"True",
    )
    dtypes = (
        b"'<f8'",
        b"'|O'",
        b"'|S0'",
        b"'<U100000000'",
        b"'|V7'",
        b"'<M8[s]'",
        b"'>i2'",
        b"[('a', '<i4')]",
        b"'?'",
        b"(1, 1)",
    )
    change = draw.choice(
        changes if place[0][:1].isdigit() else (*changes, *dtypes, b"(1000000000000, 1)", b"()", b"(" * 300)
    )
    text = text[: place.start()] + change + text[place.end() :]
    padding = -(len(text) + 11) % 64
    text += b" " * padding + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content[header.end() :]


def place_of(content: bytes, mutant: bytes) -> str:
    """Return where a mutant differs: ``byte 12 of 90: 0a0b0c0d became 0a4b0c0d``."""
    first = next((at for at, (old, new) in enumerate(zip(content, mutant, strict=False)) if old != new), None)
    if first is None:
        first = min(len(content), len(mutant))
        if len(content) == len(mutant):
            return "unchanged"
    length = f", now {len(mutant)}" if len(mutant) != len(content) else ""
    span = slice(first, first + 12)
    return f"byte {first} of {len(content)}{length}: {content[span].hex()} became {mutant[span].hex()}"
