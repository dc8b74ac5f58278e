"""Every container, codec and oddity: the frames a player shows, whichever decoder is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageSequence
from video_files import Made, all_frames, write_gif

from extract.decode_child import DecodeChild
from extract.preprocess import to_square
from extract.sampling import midpoint_indices
from extract.video import DecodedVideo, DecodeRequest, View
from features.errors import VideoError

COUNT = 8
UNEVEN = [int(t) for t in np.cumsum(np.random.default_rng(1).integers(5, 400, 24))]
FROM_ZERO = [time - UNEVEN[0] for time in UNEVEN]
B_FRAMES = {"bf": "2", "g": "8"}
GROUPS = {"bf": "3", "g": "8"}
OPEN = {"bf": "3", "x264-params": "no-mbtree=1:open-gop=1:keyint=8:min-keyint=4:b-adapt=0"}
OPEN_HEVC = {"x265-params": "open-gop=1:keyint=8:min-keyint=4:pools=1:log-level=none"}

PLAIN = [
    *(Made(f"h264.{end}", "libx264") for end in ("mp4", "mkv", "mov", "m4v", "avi")),
    *(Made(f"hevc.{end}", "libx265") for end in ("mp4", "mkv", "mov")),
    *(Made(f"vp9.{end}", "libvpx-vp9") for end in ("webm", "mkv", "mp4")),
    *(Made(f"vp8.{end}", "libvpx") for end in ("webm", "mkv")),
    *(Made(f"av1.{end}", "libsvtav1") for end in ("mp4", "webm")),
    *(Made(f"mpeg4.{end}", "mpeg4") for end in ("avi", "mp4", "mkv")),
    *(Made(f"mjpeg.{end}", "mjpeg", "yuvj420p") for end in ("avi", "mov")),
]
UNUSUAL = [
    *(Made(f"deep.{end}", "libx264", "yuv420p10le") for end in ("mp4", "mkv")),
    Made("deep-hevc.mov", "libx265", "yuv420p10le"),
    Made("deep-av1.webm", "libsvtav1", "yuv420p10le", size=(64, 64)),
    Made("odd.mp4", "libx264", "yuv444p", size=(63, 47)),
    Made("odd.webm", "libvpx-vp9", size=(63, 47)),
    Made("odd-vp8.webm", "libvpx", size=(63, 47)),
    Made("odd.avi", "mpeg4", size=(63, 47)),
    Made("odd.mov", "mjpeg", "yuvj420p", size=(63, 47)),
    *(Made(f"b-frames.{end}", "mpeg4", options=B_FRAMES) for end in ("avi", "mp4", "mkv")),
    *(Made(f"groups.{end}", "libx264", options=GROUPS) for end in ("avi", "mp4", "mkv")),
    *(Made(f"open.{end}", "libx264", options=OPEN) for end in ("avi", "mp4", "mkv")),
    *(Made(f"open-hevc.{end}", "libx265", options=OPEN_HEVC) for end in ("mp4", "mkv")),
    *(Made(f"groups-{codec}.webm", codec, options=GROUPS) for codec in ("libvpx", "libvpx-vp9")),
    Made("no-cues.mkv", "libx264", mux={"live": "1"}),
    Made("interlaced.mp4", "libx264", options={"x264-params": "no-mbtree=1:tff=1"}),
    Made("groups.ts", "libx264", options=GROUPS),
    Made("groups-no-cues.mkv", "libx264", options=GROUPS, mux={"live": "1"}),
    Made("fragments.mp4", "libx264", options=GROUPS, mux={"movflags": "frag_keyframe+empty_moov"}),
    *(
        Made(f"uneven-{codec}.{end}", codec, times_ms=UNEVEN)
        for codec, end in (
            ("libx264", "mp4"),
            ("libx264", "mkv"),
            ("libx265", "mov"),
            ("libvpx-vp9", "webm"),
            ("libvpx", "webm"),
            ("libsvtav1", "mp4"),
            ("mpeg4", "mp4"),
        )
    ),
    Made("dropped.avi", "mpeg4", times_ms=FROM_ZERO),
    Made("dropped-h264.avi", "libx264", times_ms=FROM_ZERO, options={"bf": "0"}),
    Made("late.mp4", "libx264", times_ms=[500 + time for time in UNEVEN]),
    *(
        Made(f"one.{end}", codec, count=1)
        for codec, end in (
            ("libx264", "mp4"),
            ("libx264", "mkv"),
            ("libvpx-vp9", "webm"),
            ("mpeg4", "avi"),
        )
    ),
]


@pytest.fixture(scope="module")
def child() -> Iterator[DecodeChild]:
    with DecodeChild() as running:
        yield running


def ask(path: Path, *decoders: str) -> DecodeRequest:
    views = (View(COUNT, "squash-nearest"),)
    return DecodeRequest(str(path), views, 48, decoders=decoders or ("decord", "pyav"))


def decode_both(child: DecodeChild, path: Path) -> DecodedVideo:
    """The video, after both orders of decoders agreed about it to the bit."""
    first, second = child.decode(ask(path)), child.decode(ask(path, "pyav"))
    np.testing.assert_array_equal(first.view(), second.view())
    assert first.view_pts() == second.view_pts()
    return first


def check(video: DecodedVideo, frames: np.ndarray, seconds: list[float]) -> None:
    """These frames of all, at these times."""
    at = midpoint_indices(len(frames), COUNT)
    np.testing.assert_array_equal(video.view(), to_square(frames, "squash-nearest", 48)[at])
    assert video.view_pts() == pytest.approx([seconds[i] for i in at], abs=2e-3)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such policies here")
def test_writing_a_video_leaves_this_process_at_its_priority(tmp_path: Path) -> None:
    policy = os.sched_getscheduler(0)
    Made("av1.mp4", "libsvtav1").write(tmp_path)
    assert os.sched_getscheduler(0) == policy


@pytest.mark.parametrize("made", [*PLAIN, *UNUSUAL], ids=lambda made: made.name)
def test_frames_and_times(child: DecodeChild, tmp_path: Path, made: Made) -> None:
    path = made.write(tmp_path)
    frames, _ = all_frames(path)
    assert frames.shape == made.pictures().shape
    assert np.abs(frames.astype(int) - made.pictures()).mean() < 9
    check(decode_both(child, path), frames, made.seconds())


def test_no_more_is_decoded_than_the_frames_need(child: DecodeChild, tmp_path: Path) -> None:
    """Seeking into an open group of pictures works, even past damage."""
    path = Made("open.mp4", "libx264", options=OPEN, count=48).write(tmp_path)
    frames, _ = all_frames(path)
    with av.open(str(path)) as container:
        damaged = [p for p in container.demux(video=0) if p.size][9]
    data = bytearray(path.read_bytes())
    data[damaged.pos + 5] ^= 0xFF  # in the header of a slice
    path.write_bytes(data)
    video = child.decode(DecodeRequest(str(path), (View(1, "squash-nearest"),), 48))
    wanted = to_square(frames[midpoint_indices(48, 1)], "squash-nearest", 48)
    np.testing.assert_array_equal(video.view(), wanted)
    with pytest.raises(VideoError):
        child.decode(ask(path))


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
@pytest.mark.parametrize("end", ["mp4", "mov", "mkv"])
def test_rotated_pictures_stand_upright(
    child: DecodeChild, tmp_path: Path, end: str, angle: int
) -> None:
    made = Made(f"turned.{end}", "libx264", angle=angle)
    path = made.write(tmp_path)
    stored, _ = all_frames(path)
    shown = np.rot90(stored, angle // 90, axes=(1, 2))  # counter-clockwise, as PyAV wrote it
    check(decode_both(child, path), shown, made.seconds())


def test_frames_before_an_edit_lists_start_are_not_shown(
    child: DecodeChild, tmp_path: Path
) -> None:
    source = Made("whole.mp4", "libx264", options={"bf": "0"}).write(tmp_path)
    path = tmp_path / "cut.mp4"
    with (
        av.open(str(source)) as old,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        late = int(0.2 / old.streams.video[0].time_base)
        for packet in old.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - late, packet.dts - late, stream
                new.mux(packet)
    whole, _ = all_frames(source)
    video = decode_both(child, path)
    check(video, whole[5:], [0.04 * i for i in range(19)])


def test_vp8_references_that_are_never_shown(child: DecodeChild, tmp_path: Path) -> None:
    source = Made("shown.webm", "libvpx").write(tmp_path)
    path = tmp_path / "hidden.webm"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
            if number in (3, 11):
                data = bytearray(bytes(packet))
                data[0] &= ~0x10  # the bit that says: show this frame
                again = av.Packet(bytes(data))
                again.pts = again.dts = packet.pts + 1
                again.time_base, again.stream = packet.time_base, stream
                new.mux(again)
    frames, times = all_frames(path)
    assert len(frames) == 24
    check(decode_both(child, path), frames, [float(time or 0) for time in times])


def draw(number: int, back: tuple[int, ...], mode: str) -> Image.Image:
    image = Image.new(mode, (48, 48), back)
    box = [4 + number * 4, 6, 16 + number * 4, 20]
    ImageDraw.Draw(image).rectangle(box, fill=(220, 30 + 20 * number, 40, 255)[: len(back)])
    return image


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_animated_gifs(child: DecodeChild, tmp_path: Path, disposal: int) -> None:
    """Partial frames, see-through ones (on white, as on a page), short and very long delays."""
    delays = [20, 100, 70, 30_000, 250, 100, 60, 40]
    seconds = [sum(delays[:i]) / 1000 for i in range(8)]
    for mode, back in (("RGB", (20, 120, 200)), ("RGBA", (0, 0, 0, 0))):
        images = [draw(i, back, mode) for i in range(8)]
        path = write_gif(tmp_path / "a.gif", images, delays, disposal=[1] + [disposal] * 7)
        check(decode_both(child, path), as_pillow_shows(path), seconds)


def as_pillow_shows(path: Path) -> np.ndarray:
    with Image.open(path) as animation:
        frames = [frame.convert("RGBA") for frame in ImageSequence.Iterator(animation)]
    white = Image.new("RGBA", frames[0].size, "white")
    return np.stack([np.asarray(Image.alpha_composite(white, f).convert("RGB")) for f in frames])


def lzw(pixels: list[int]) -> bytes:
    """8-bit GIF codes of an encoder that goes on with a full dictionary instead of clearing it."""
    words = {(value,): value for value in range(256)}
    word, entries, width, bits, length = (pixels[0],), 258, 9, 256, 9
    for pixel in [*pixels[1:], -1]:
        if (*word, pixel) in words:
            word = (*word, pixel)
            continue
        bits, length = bits | words[word] << length, length + width
        if entries < 4096:
            words[*word, pixel], entries = entries, entries + 1
            width += entries - 1 == 1 << width and width < 12
        word = (pixel,)
    return (bits | 257 << length).to_bytes((length + width + 7) // 8, "little")


def test_a_gif_whose_dictionary_is_never_cleared(child: DecodeChild, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (256, 256), np.uint8)
    packed = lzw(noise.ravel().tolist())
    blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
    greys = bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))
    size, corner = np.array([256, 256], "<u2").tobytes(), bytes(4)
    image = b"," + corner + size + b"\0\x08" + b"".join(bytes([len(b)]) + b for b in blocks)
    path = tmp_path / "full.gif"
    path.write_bytes(b"GIF89a" + size + b"\xf7\0\0" + greys + image + b"\0;")
    with Image.open(path) as shown:
        np.testing.assert_array_equal(np.asarray(shown.convert("L")), noise)
    frames, _ = all_frames(path)
    check(child.decode(ask(path)), frames, [0.0])


def test_one_frame_gif(child: DecodeChild, tmp_path: Path) -> None:
    draw(0, (20, 120, 200), "RGB").save(tmp_path / "one.gif")
    video = child.decode(ask(tmp_path / "one.gif"))
    assert (len(video.view()), video.view_pts()) == (1, (0.0,))


@pytest.mark.parametrize(
    ("end", "code"), [("avi", "empty"), ("mkv", "empty"), ("mp4", "no-video-stream")]
)
def test_a_stream_without_frames(child: DecodeChild, tmp_path: Path, end: str, code: str) -> None:
    """libavformat leaves a track without frames out of an MP4 file altogether."""
    source = Made("source.mp4", "mpeg4").write(tmp_path)
    path = tmp_path / f"nothing.{end}"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        new.add_stream_from_template(old.streams.video[0])
        new.start_encoding()
    with pytest.raises(VideoError) as caught:
        child.decode(ask(path))
    assert caught.value.code == code


def test_a_crooked_picture_is_refused(child: DecodeChild, tmp_path: Path) -> None:
    path = Made("crooked.mp4", "libx264", angle=30).write(tmp_path)
    with pytest.raises(VideoError, match="quarter turn"):
        child.decode(ask(path))


@pytest.mark.parametrize("made", PLAIN[:4], ids=lambda made: made.name)
def test_junk_behind_the_end_is_no_damage(child: DecodeChild, tmp_path: Path, made: Made) -> None:
    path = made.write(tmp_path)
    sound = child.decode(ask(path))
    path.write_bytes(path.read_bytes() + b"downloaded by somebody\0\0\0" * 9)
    np.testing.assert_array_equal(child.decode(ask(path)).view(), sound.view())


def test_a_frame_lost_to_damage_is_no_dropped_frame(child: DecodeChild, tmp_path: Path) -> None:
    path = Made("dropped.avi", "mpeg4", times_ms=FROM_ZERO).write(tmp_path)
    with av.open(str(path)) as container:
        places = [entry.pos for entry in container.streams.video[0].index_entries]
    data = bytearray(path.read_bytes())
    assert data[places[9] : places[9] + 4] == b"00dc"
    data[places[9] + 4 : places[9] + 8] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(VideoError):
        child.decode(DecodeRequest(str(path), (View(COUNT, "crop-bicubic"),), 48))
