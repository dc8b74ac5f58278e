from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from extract.decode_child import DecodeChild
from extract.sampling import midpoint_indices
from extract.video import DecodedVideo, DecodeRequest, View
from features.errors import VideoError

Clip = Callable[..., Path]
CODECS = [
    ("a.mp4", "libx264"),
    ("a.mkv", "libx264"),
    ("a.webm", "libvpx-vp9"),
    ("a.avi", "mpeg4"),
    ("a.mov", "libx264"),
]


def ask(path: Path, num_frames: int = 8, **facts: object) -> DecodeRequest:
    view = View(num_frames, facts.pop("preprocessing", "crop-bicubic"))  # type: ignore[arg-type]
    wanted = {"views": (view,), "image_size": 64, **facts}
    return DecodeRequest(str(path), **wanted)  # type: ignore[arg-type]


def code_of(child: DecodeChild, path: Path, **facts: object) -> str:
    with pytest.raises(VideoError) as caught:
        child.decode(ask(path, **facts))
    assert path.name in str(caught.value)
    return caught.value.code


def all_frames(path: Path) -> tuple[np.ndarray, list[float]]:
    """Every frame and its time, by a plain sequential decode."""
    with av.open(str(path)) as container:
        found = list(container.decode(video=0))
        return np.stack([f.to_ndarray(format="rgb24") for f in found]), [f.time for f in found]


@pytest.fixture(scope="module")
def child() -> Iterator[DecodeChild]:
    with DecodeChild() as running:
        yield running


@pytest.mark.parametrize("decoders", [("decord", "pyav"), ("pyav",)])
@pytest.mark.parametrize(("name", "codec"), CODECS)
def test_gives_the_midpoint_frames(
    child: DecodeChild, clip: Clip, tmp_path: Path, name: str, codec: str, decoders: tuple[str, ...]
) -> None:
    path = clip(tmp_path / name, codec=codec)
    frames, times = all_frames(path)
    indices = midpoint_indices(len(frames), 8)
    video = child.decode(ask(path, decoders=decoders))
    np.testing.assert_array_equal(video.frames, frames[indices])
    assert video.pts == pytest.approx([times[i] for i in indices], abs=1e-3)
    assert video.decoder == ("pyav" if codec == "libvpx-vp9" else decoders[0])
    assert video.decoder_version


def test_both_decoders_find_the_same_frames_by_seeking(
    child: DecodeChild, clip: Clip, tmp_path: Path
) -> None:
    path = clip(tmp_path / "long.mp4", num_frames=900, size=32, fps=30)
    facts = {"num_frames": 5, "image_size": 32}
    first = child.decode(ask(path, decoders=("decord",), **facts))
    second = child.decode(ask(path, **facts))
    assert (first.decoder, second.decoder) == ("decord", "pyav")
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.pts == pytest.approx(second.pts, abs=1e-3)


def test_preprocessing_and_thumbnails(child: DecodeChild, clip: Clip, tmp_path: Path) -> None:
    path = clip(tmp_path / "big.mp4", size=320)
    video = child.decode(ask(path, image_size=48, preprocessing="squash-nearest", num_frames=20))
    assert video.frames.shape == (20, 48, 48, 3)
    assert len(video.thumbs) == 8
    with Image.open(BytesIO(video.thumbs[0])) as image:
        assert image.size == (160, 160)
        frames, _ = all_frames(path)
        first = frames[midpoint_indices(32, 20)[0]]
        small = np.asarray(Image.fromarray(first).resize((160, 160)), int)
        assert np.abs(np.asarray(image, int) - small).mean() < 8
    assert child.decode(ask(path, thumbs=0)).thumbs == ()
    assert len(child.decode(ask(path, num_frames=3)).thumbs) == 3


def test_one_frame_and_short_clips(child: DecodeChild, clip: Clip, tmp_path: Path) -> None:
    one = child.decode(ask(clip(tmp_path / "one.mp4", num_frames=1)))
    assert (one.frames.shape, one.pts) == ((1, 64, 64, 3), (0.0,))
    assert len(child.decode(ask(clip(tmp_path / "five.mp4", num_frames=5))).view()) == 5


def test_a_still_video_is_legal(child: DecodeChild, tmp_path: Path) -> None:
    path = tmp_path / "still.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        for _ in range(16):
            grey = np.full((64, 64, 3), 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    video = child.decode(ask(path))
    assert len(set(video.pts)) == 8
    assert (video.frames == video.frames[0]).all()
    video = child.decode(ask(path, decoders=("decord", "pyav")))
    assert video.decoder == "pyav"  # has the last word: decord might have been stuck


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        silence = np.zeros((1, 16_000), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_damaged_sound_is_no_damage(child: DecodeChild, clip: Clip, tmp_path: Path) -> None:
    source, sound = clip(tmp_path / "silent.mp4"), write_audio(tmp_path / "sound.mp4")
    path = tmp_path / "both.mp4"
    with (
        av.open(str(source)) as video,
        av.open(str(sound)) as audio,
        av.open(str(path), "w") as both,
    ):
        streams = [both.add_stream_from_template(c.streams[0]) for c in (video, audio)]
        for container, stream in zip((audio, video), reversed(streams), strict=True):
            for packet in container.demux():
                if packet.dts is not None:
                    if container is audio:  # none of its frames can be decoded
                        noise = np.random.default_rng(0).integers(0, 256, packet.size)
                        packet.update(noise.astype(np.uint8).tobytes())
                    packet.stream = stream
                    both.mux(packet)
    wanted = child.decode(ask(source))
    for decoder in ("pyav", "decord"):
        got = child.decode(ask(path, decoders=(decoder,)))
        np.testing.assert_array_equal(got.view(), wanted.view())


def remux(source: Path, target: Path, **options: str) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def test_unusable_files_have_a_code_each(child: DecodeChild, clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "folder.mp4").mkdir()
    whole = clip(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert code_of(child, tmp_path / "nowhere.mp4") == "missing"
    assert code_of(child, tmp_path / "empty.mp4") == "empty"
    assert code_of(child, tmp_path / "text.mp4") == "not-a-video"
    assert code_of(child, tmp_path / "folder.mp4") == "not-a-video"
    assert code_of(child, write_audio(tmp_path / "audio.mp4")) == "no-video-stream"
    assert code_of(child, tmp_path / "cut.mp4") == "truncated"
    assert isinstance(child.decode(ask(tmp_path / "whole.mp4")), DecodedVideo)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("name", ["fast.mp4", "fragments.mp4", "a.mkv", "a.avi"])
def test_truncated_files_of_all_kinds(
    child: DecodeChild, clip: Clip, tmp_path: Path, name: str, share: float
) -> None:
    source = clip(tmp_path / f"s{Path(name).suffix}", codec="mpeg4" if "avi" in name else "libx264")
    flags = {"fast": "faststart", "fragments": "frag_keyframe+empty_moov"}.get(name.split(".")[0])
    path = remux(source, tmp_path / name, **({"movflags": flags} if flags else {}))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert code_of(child, path) in {"truncated", "damaged"}


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_concealed_damage_is_a_failure(
    child: DecodeChild, clip: Clip, tmp_path: Path, decoder: str
) -> None:
    whole = bytearray(clip(tmp_path / "a.mp4").read_bytes())
    sound = child.decode(ask(tmp_path / "a.mp4"))
    start, end = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    outcomes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        data = whole.copy()
        for at in rng.integers(start, end, 5):
            data[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "bad.mp4").write_bytes(data)
        try:
            video = child.decode(ask(tmp_path / "bad.mp4", decoders=(decoder,)))
            outcomes.append("same" if (video.frames == sound.frames).all() else "concealed")
        except VideoError as error:
            outcomes.append(error.code)
    assert set(outcomes) <= {"damaged", "truncated", "same"}
    assert outcomes.count("damaged") >= 6


FAULTY = """
import ctypes, hashlib, os, signal, sys, time
import extract.decode
from extract.decode_child import serve

real = extract.decode.decode_video
def faulty(request):
    name = os.path.basename(request.path)
    if "spin" in name:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # native: no Python signal handler runs
    if "sleep" in name or ("stuck" in name and "pyav" in request.decoders):
        time.sleep(100)
    if "crash" in name and "pyav" in request.decoders:
        ctypes.string_at(0)
    if "always" in name:
        os.abort()
    if "lie" in name:
        os.write(1, b"noise of a native library")
        os.write(int(os.environ["ANSWERS"]), b"\\xff\\xff\\xff\\xff and so on")
    if "once" in name and not os.path.exists(request.path + ".seen"):
        open(request.path + ".seen", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return real(request)

extract.decode.decode_video = faulty
os.environ["ANSWERS"] = str(os.dup(1))
serve()
"""


FAULTY_CHILD = (sys.executable, "-c", FAULTY)


@pytest.fixture(scope="module")
def faulty() -> Iterator[DecodeChild]:
    """A child whose decoder misbehaves as the file's name says."""
    with DecodeChild(FAULTY_CHILD) as running:
        yield running


@pytest.mark.parametrize(("name", "wall_factor"), [("spin.mp4", 100.0), ("sleep.mp4", 2.5)])
def test_a_hang_is_a_timeout(clip: Clip, tmp_path: Path, name: str, wall_factor: float) -> None:
    """A native loop runs out of CPU seconds, a sleeper is caught by the wall-clock net."""
    good = ask(clip(tmp_path / "good.mp4"))
    with DecodeChild(FAULTY_CHILD, wall_factor) as child:
        child.decode(good)  # starting up is not part of what we measure
        start = time.monotonic()
        assert code_of(child, clip(tmp_path / name), deadline_s=1) == "timeout"
        assert 2 < time.monotonic() - start < 60  # each decoder had a deadline of its own
        assert len(child.decode(good).frames) == 8


def test_a_decoder_that_hangs_leaves_the_file_to_the_other(clip: Clip, tmp_path: Path) -> None:
    with DecodeChild(FAULTY_CHILD, wall_factor=5.0) as child:
        child.decode(ask(clip(tmp_path / "good.mp4")))
        video = child.decode(ask(clip(tmp_path / "stuck.mp4"), deadline_s=1))
        assert video.decoder == "decord"
        good = child.decode(ask(tmp_path / "good.mp4"))
        np.testing.assert_array_equal(video.view(), good.view())


def test_a_file_must_fit_its_checksum(child: DecodeChild, clip: Clip, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(child.decode(ask(path, sha256=digest.upper())).view()) == 8
    path.write_bytes(path.read_bytes() + b"\0")  # as sound as before for any decoder
    assert len(child.decode(ask(path)).view()) == 8
    assert code_of(child, path, sha256=digest) == "damaged"
    assert code_of(child, tmp_path / "gone.mp4", sha256=digest) == "missing"


@pytest.mark.parametrize("name", ["always.mp4", "lie.mp4"])
def test_a_crash_costs_that_file_alone(
    faulty: DecodeChild, clip: Clip, tmp_path: Path, name: str
) -> None:
    assert code_of(faulty, clip(tmp_path / name)) == "crashed"
    assert len(faulty.decode(ask(clip(tmp_path / "good.mp4"))).frames) == 8


def test_who_killed_the_child_decides_who_tries_next(
    faulty: DecodeChild, clip: Clip, tmp_path: Path
) -> None:
    assert faulty.decode(ask(clip(tmp_path / "crash.mp4"))).decoder == "decord"
    assert faulty.decode(ask(clip(tmp_path / "once.mp4"))).decoder == "pyav"
    assert code_of(faulty, clip(tmp_path / "crash.webm", codec="libvpx-vp9")) == "crashed"


def test_the_child_ends_with_its_parent(clip: Clip, tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    code = f"""
import os
from extract.decode_child import DecodeChild
from extract.video import DecodeRequest, View
child = DecodeChild()
child.decode(DecodeRequest({str(tmp_path / "a.mp4")!r}, (View(8, "crop-bicubic"),), 64))
print(child._process.pid, flush=True)
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    grandchild = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{grandchild}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the decoding child outlived its parent")
