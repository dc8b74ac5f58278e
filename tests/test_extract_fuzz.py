"""Files that lie: damage of every kind ends in the sound file's frames or in one failure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from damage import KINDS, damage
from PIL import Image
from video_files import Made, pictures, write_gif

from extract.decode_child import DecodeChild
from extract.video import DecodedVideo, DecodeRequest, View
from features.errors import VideoError

FILES = {
    "h264.mp4": "libx264",
    "h264.mkv": "libx264",
    "h264.mov": "libx264",
    "h264.avi": "libx264",
    "vp9.webm": "libvpx-vp9",
    "scene.gif": "gif",
    "hevc.mp4": "libx265",
    "hevc.mkv": "libx265",
    "av1.webm": "libsvtav1",
    "mpeg4.avi": "mpeg4",
    "vp8.webm": "libvpx",
    "mjpeg.mov": "mjpeg",
}
HIDES = {
    "scene.gif": (0.06, 0.2),
    "hevc.mp4": (0.6, 0.04),
    "mpeg4.avi": (0.2, 0.04),
    "vp8.webm": (1.0, 0.4),
    "mjpeg.mov": (0.5, 0.1),
}
"""Payloads without redundancy: how often five flipped bits, and a gap of zeros, give other legal
pictures at most, of a hundred copies."""
SIZE = (96, 72)
HARMLESS = {"same", "damaged", "truncated", "empty", "not-a-video", "no-video-stream"}
HARMLESS |= {"wrong-frames"}


@pytest.fixture(scope="module")
def child() -> Iterator[DecodeChild]:
    with DecodeChild() as running:
        yield running


def write(folder: Path, name: str) -> Path:
    codec = FILES[name]
    if codec == "gif":
        images = [Image.fromarray(picture) for picture in pictures(24, *SIZE)]
        return write_gif(folder / name, images, [80] * 24)
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return Made(name, codec, pix_fmt, SIZE, count=48).write(folder)


def decode(child: DecodeChild, path: Path, sha256: str = "") -> DecodedVideo:
    views = (View(8, "squash-nearest"),)
    return child.decode(DecodeRequest(str(path), views, 48, 0, deadline_s=20, sha256=sha256))


def outcome(child: DecodeChild, path: Path, sound: DecodedVideo, sha256: str = "") -> str:
    """`same`, the code of a failure, or `hidden`: other frames or times, as if all were well."""
    try:
        video = decode(child, path, sha256)
    except VideoError as error:
        return error.code
    same_frames = np.array_equal(video.view(), sound.view())
    same_times = np.allclose(video.view_pts(), sound.view_pts(), atol=2e-3)
    return "same" if same_frames and same_times else "hidden"


def hidden(child: DecodeChild, folder: Path, name: str, seeds: range) -> dict[str, list[int]]:
    """For each kind of damage the seeds that nothing but a checksum noticed."""
    path = write(folder, name)
    data, sound = path.read_bytes(), decode(child, path)
    digest = hashlib.sha256(data).hexdigest()
    assert outcome(child, path, sound, digest) == "same"
    (folder / "other").mkdir()
    lender = "h264.mp4" if path.suffix == ".mkv" else "h264.mkv"
    other = write(folder / "other", lender).read_bytes()
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for seed in seeds:
            path.write_bytes(damage(kind, seed, data, other))
            what = outcome(child, path, sound)
            if what == "hidden":
                found[kind].append(seed)
                what = outcome(child, path, sound, digest)
            assert what in HARMLESS, (kind, seed, what)
    return found


@pytest.mark.parametrize("name", FILES)
def test_damage_never_goes_unnoticed(child: DecodeChild, tmp_path: Path, name: str) -> None:
    """With a checksum never; without one only where the payload has no redundancy."""
    found = hidden(child, tmp_path, name, range(5))
    assert not found["cut"] + found["header"]
    if name not in HIDES:
        assert not found["zeros"]
        assert len(found["flips"]) <= 1  # 0 to 3 in a hundred copies hide


def test_pictures_that_libav_patched_up(child: DecodeChild, tmp_path: Path) -> None:
    """Large pictures often end early after one flipped bit: libav fills them up and marks them."""
    quick = {"crf": "30", "preset": "superfast", "bf": "0"}
    path = Made("large.mp4", "libx264", size=(640, 480), options=quick).write(tmp_path)
    data, sound = path.read_bytes(), decode(child, path)
    start, end = data.index(b"mdat") + 800, data.index(b"moov") - 4  # behind x264's own text
    outcomes = []
    for seed in range(24):
        rng, damaged = np.random.default_rng(seed), bytearray(data)
        damaged[int(rng.integers(start, end))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        outcomes.append(outcome(child, path, sound))
    assert set(outcomes) <= HARMLESS | {"hidden"}
    assert outcomes.count("hidden") <= 1


def test_a_matroska_element_without_its_crc(child: DecodeChild, tmp_path: Path) -> None:
    """Where others have one, a missing CRC-32 is damage too: its own bytes are unprotected."""
    path = write(tmp_path, "h264.mkv")
    data = path.read_bytes()
    at = data.index(b"\xbf\x84", data.index(b"\x1f\x43\xb6\x75"))
    path.write_bytes(data[:at] + b"\xec\x84" + data[at + 2 :])  # a padding element now
    with pytest.raises(VideoError, match="lost its CRC"):
        decode(child, path)


@pytest.mark.soak
@pytest.mark.parametrize("name", FILES)
def test_how_often_damage_hides(child: DecodeChild, tmp_path: Path, name: str) -> None:
    found = hidden(child, tmp_path, name, range(100))
    print(f"{name}: noticed by nothing but a checksum: {found}")
    flips, zeros = HIDES.get(name, (0.05, 0.03))
    assert not found["cut"] + found["header"]
    assert len(found["flips"]) <= 100 * flips
    assert len(found["zeros"]) <= 100 * zeros
