"""Damage that libav does not look for: what a sound file's own structure promises.

Each check returns what is wrong, or "" when nothing is. None of them is a checksum of the pictures,
except Matroska's: a flipped bit that leaves another legal file goes unnoticed here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

_SEGMENT = 0x18538067
_FREE = {0xEC, 0x1A45DFA3}
"""Matroska's padding and the file's head: libavformat gives them no CRC."""
_ESCAPED = re.compile(rb"\0\0(?:[\0-\x02]|\x03[^\0-\x03])")
_PREFIX_AT = {"h264": 4, "hevc": 21}
"""Where a codec's header says how long the lengths before its units are."""
_GAPS = {"vp8": bytes(128), "vp9": bytes(24), "av1": bytes(24), "mpeg4": bytes(24)}
"""More zeros than an entropy coder gives for nothing: 41 were seen in a sound VP8, 6 in others."""
_BOX = re.compile(rb"ftyp|styp|moov|moof|mdat|mfra|sidx|free|skip|wide|uuid")
_START_CODE = re.compile(rb"\0\0\x01")
_LZW_CODES = 4096
_AVI_TAIL = 1 << 16
"""Bytes behind an AVI's last frame that are searched for dropped ones."""


class _Bytes(Protocol):
    """What bytes and a memory map have in common."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: slice, /) -> bytes: ...


def packet_fault(packet: bytes, codec: str, extra: bytes) -> str:
    """What is wrong with one packet of this codec, whose header is `extra`."""
    if codec in _PREFIX_AT:
        return _unit_fault(packet, _prefix(codec, extra))
    if codec in _GAPS and _GAPS[codec] in packet.rstrip(b"\0"):
        return "a gap of zeros in the middle of a picture"
    return ""


def _prefix(codec: str, extra: bytes) -> int:
    """Bytes of the length before each unit of an H.264 or HEVC packet; 0: start codes instead."""
    at = _PREFIX_AT[codec]
    return (extra[at] & 3) + 1 if len(extra) > at and extra[0] == 1 else 0


def _unit_fault(packet: bytes, prefix: int) -> str:
    """What is wrong with the units of one H.264 or HEVC packet.

    They fill their packet, and inside one no three bytes look like a start code: a run of zeros
    cannot be part of a sound picture.

    Args:
        packet: one packet.
        prefix: bytes of each unit's length; 0 when start codes part them.
    """
    for unit in _units(packet, prefix) if prefix else _START_CODE.split(packet)[1:]:
        body = unit.rstrip(b"\0")
        if not body or body[0] & 0x80:
            return "the units of a packet do not fill it"
        if b"\0\0" in body and _ESCAPED.search(body):
            return "a start code in the middle of a picture"
    return ""


def _units(packet: bytes, prefix: int) -> Iterator[bytes]:
    """Units by their lengths; an empty one when they overshoot."""
    at = 0
    while at < len(packet):
        start = at + prefix
        at = start + int.from_bytes(packet[at:start], "big")
        yield packet[start:at] if at <= len(packet) else b""


def box_fault(data: _Bytes) -> str:
    """What is wrong with an MP4 or MOV file: none of its boxes reaches past the end."""
    at = 0
    while _BOX.match(data[at + 4 : at + 8]):
        size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at += max(size, 8)
    return "an MP4 box is cut off" if at > len(data) else ""


def matroska_fault(data: _Bytes) -> str:
    """What is wrong with a Matroska file: elements fill the segment, checksums are right.

    libavformat writes a CRC-32 into everything but padding, mkvmerge and YouTube into nothing.
    """
    at, end = 0, len(data)
    checked, bare = 0, 0
    while at < end:
        name, at = _vint(data, at, marked=True)
        size, at = _vint(data, at)
        if size < 0 or name == _SEGMENT:  # of unknown size, or what holds all the others
            end = min(end, at + size) if size >= 0 else end
            continue
        if name < 0 or at + size > end:
            return "Matroska elements do not fill the file"
        if data[at : at + 2] == b"\xbf\x84":
            want = int.from_bytes(data[at + 2 : at + 6], "little")
            if zlib.crc32(data[at + 6 : at + size]) != want:
                return "a Matroska element does not fit its CRC-32"
            checked += 1
        else:
            bare += name not in _FREE
        at += size
    return "a Matroska element lost its CRC-32" if checked and bare else ""


def _vint(data: _Bytes, at: int, marked: bool = False) -> tuple[int, int]:
    """(number, where it ends) of a Matroska number; -1 for an unknown or impossible one."""
    first = data[at : at + 1]
    length = 9 - first[0].bit_length() if first else 9
    if length > 8:
        return -1, at + 1
    raw, mask = int.from_bytes(data[at : at + length], "big"), (1 << 7 * length) - 1
    number = raw if marked else raw & mask
    return (-1 if not marked and number == mask else number), at + length


def dropped_frames(data: _Bytes, stream: int, chunks: Sequence[tuple[int, int]]) -> int:
    """How many frames of an AVI stream were left out on purpose: chunks without bytes.

    Args:
        data: the file.
        stream: its number.
        chunks: (place, bytes) of the frames that are there, in order.
    """
    empty = re.compile(rb"%02d[dD][bBcC]\0\0\0\0" % stream)
    ends = [place + 8 + size for place, size in chunks]
    found = 0
    for end, start in zip(ends, [place for place, _ in chunks[1:]], strict=False):
        if start - end >= 8:
            found += len(empty.findall(data[end:start]))
    last = data[ends[-1] : ends[-1] + _AVI_TAIL] if ends else b""
    return found + len(empty.findall(last.partition(b"idx1")[0]))


def gif_fault(data: _Bytes) -> str:
    """What is wrong with a GIF: blocks reach the trailer, and each image fills its rectangle."""
    try:
        return _gif_fault(data)
    except IndexError:
        return "the GIF ends before its trailer"


def _gif_fault(data: _Bytes) -> str:
    width, height = np.frombuffer(data[6:10], "<u2").tolist()
    at = 13 + _colours(data[10:11][0])
    while (kind := data[at : at + 1][0]) != 0x3B:
        if kind == 0x21:
            _, at = _sub_blocks(data, at + 2)
            continue
        if kind != 0x2C or len(data) < at + 11:
            return "an unknown GIF block"
        left, top, columns, rows = np.frombuffer(data[at + 1 : at + 9], "<u2").tolist()
        at += 10 + _colours(data[at + 9 : at + 10][0])
        bits = data[at : at + 1][0]
        packed, at = _sub_blocks(data, at + 1)
        if not 2 <= bits <= 8 or _lzw_pixels(packed, bits) != columns * rows:
            return "a GIF image has too few or too many pixels"
        if left + columns > width or top + rows > height:
            return "a GIF image lies outside"
    return ""


def _colours(flags: int) -> int:
    """Bytes of the colour table that a flag byte announces."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _sub_blocks(data: _Bytes, at: int) -> tuple[bytes, int]:
    """(contents, where they end) of a chain of GIF sub-blocks."""
    parts = []
    while size := data[at : at + 1][0]:
        parts.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return b"".join(parts), at + 1


def _lzw_pixels(packed: bytes, bits: int) -> int:
    """How many pixels a GIF image's codes give; -1 when one of them is impossible.

    A dictionary grows by one entry a code until it is full, so the place of every code after a
    clear code is known without decoding, and the length of an entry is its depth in the tree of
    entries.
    """
    clear = 1 << bits
    data = np.frombuffer(packed + bytes(3), np.uint8).astype(np.int32)
    words = data[:-2] | data[1:-1] << 8 | data[2:] << 16
    at, total, last = 0, 0, len(packed) * 8
    while True:
        for most in (_LZW_CODES, last // bits):  # few encoders go on with a full dictionary
            starts, masks = _lzw_places(bits, most)
            n = max(0, int(np.searchsorted(starts, last - at, "right")) - 1)
            where = starts[:n] + at
            codes = words[where >> 3] >> (where & 7) & masks[:n]
            stops = np.flatnonzero((codes == clear) | (codes == clear + 1))
            if len(stops) or n < most:
                break
        used = int(stops[0]) if len(stops) else n
        entries = np.maximum(codes[:used] - clear - 1, 0)
        grown = entries[: _LZW_CODES - clear]
        if (grown > np.arange(len(grown))).any():
            return -1
        total += used + int(_depths(grown)[entries].sum())
        if used == n or codes[used] == clear + 1:
            return total
        at += int(starts[used + 1])


@lru_cache(maxsize=16)
def _lzw_places(bits: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """((count + 1,) first bits, (count,) masks) of the codes that follow a clear code."""
    known = (1 << bits) + 1 + np.maximum(np.arange(count), 1)
    widths = np.maximum(np.frexp(np.minimum(known, _LZW_CODES - 1))[1], bits + 1)
    starts = np.concatenate(([0], np.cumsum(widths))).astype(np.int32)
    return starts, (1 << widths).astype(np.int32) - 1


def _depths(entries: np.ndarray) -> np.ndarray:
    """Depth of each LZW entry, where entry k extends the one that code k - 1 named."""
    parents = np.concatenate(([0], entries[:-1])) if len(entries) else entries
    depths = np.minimum(np.arange(len(entries)), 1)
    while parents.any():
        depths, parents = depths + depths[parents], parents[parents]
    return depths
