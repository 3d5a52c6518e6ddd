"""Frames from a video file, exact to the frame, forward and backward, in bounded memory.

Opening builds an index of the frames. Where the container is trustworthy it is read without
decoding (packets carry time stamps and key-frame flags) and any frame is reached by seeking to the
key frame before it. Everything else - missing or repeated time stamps, GIF, streams cut in the
middle - is counted by decoding, and frames are reached by decoding from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from segspn.errors import InputError

# Decoded frames that a backward read may hold at once.
BACKWARD_BUFFER_BYTES = 96 << 20
# Backward reads take at least so many frames per seek: intra-only files have a key frame each.
_LEAST_CHUNK = 8
# The index made from packets is compared with this many decoded frames before it is believed.
_PROBE = 8
# Containers whose time stamps and key-frame flags come from an index or a parser, and codecs in
# which a packet is a shown frame (VP8, for one, sends hidden frames as packets of their own).
_SEEKABLE_FORMATS = frozenset({"mov", "mp4", "matroska", "webm", "mpegts"})
_ONE_FRAME_PER_PACKET = frozenset(
    {"h264", "hevc", "vp9", "av1", "libdav1d", "mjpeg", "prores", "ffv1", "mpeg4", "mpeg2video"}
)
_BT709 = 1  # H.273 number of the BT.709 matrix
# These decoders mark damaged frames themselves; told to stop at errors, they would refuse streams
# for flaws that do not show.
_FLAGS_DAMAGE = frozenset({"h264", "hevc"})


@dataclass(frozen=True)
class _Index:
    """``pts`` int64, ascending, one per frame; ``keys``: numbers of frames to start decoding at."""

    pts: np.ndarray
    keys: np.ndarray


class _Broken(Exception):
    """Frame ``number`` did not come out of the decoder intact."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class VideoFrames:
    """The frames of one video file.

    Attributes: ``size`` (H, W) as seen, rotation metadata applied; ``fps``.

    ``limit``: no frame number at or above it will be asked for, which spares counting the rest
    where that means decoding. Raises `InputError` for a file without decodable video.
    """

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self._path = path
        self._index = self._index_packets()
        if self._index is None:
            self._probe(1)
            self._count = self._count_frames(limit)
        else:
            self._count = len(self._index.pts)

    def __len__(self) -> int:
        return self._count

    def select(self, numbers: range) -> list[str]:
        """Output stems of the frames ``numbers``: their numbers, ``%05d``."""
        return [f"{number:05d}" for number in numbers]

    def stem(self, number: int) -> None:
        """Frames of a video have no file names."""
        return None

    def read(self, numbers: range) -> Iterator[np.ndarray]:
        """Frames uint8 (H, W, 3) RGB, C-contiguous, by frame number, in the order of ``numbers``.

        A descending range holds at most `BACKWARD_BUFFER_BYTES` of decoded frames, decoding long
        groups of pictures several times if it must. Raises `InputError` at a frame that is
        damaged or of another size.
        """
        decoded = self._ascending(numbers) if numbers.step > 0 else self._descending(numbers)
        try:
            for number, frame in decoded:
                yield self._to_rgb(number, frame)
        except _Broken as broken:
            n = broken.number
            raise InputError(
                f"frame {n} of {self._path} is damaged and cannot be decoded: "
                + (f"stop before it with --end {n} or " if n else "")
                + "re-encode the video"
            ) from broken

    # Indexing

    def _index_packets(self) -> _Index | None:
        """The index by demuxing alone, or None where only decoding tells what frames there are."""
        listed = self._list_packets()
        if listed is None:
            return None
        stamps, keys = listed
        pts = np.unique(np.asarray(stamps, np.int64))
        # Frames shown before the first key frame hang on pictures that are not in the file.
        if len(pts) == 0 or len(pts) != len(stamps) or pts[0] != stamps[0]:
            return None
        probed = self._probe(_PROBE)
        if probed != pts[: len(probed)].tolist():
            return None
        return _Index(pts, np.searchsorted(pts, np.unique(np.asarray(keys, np.int64))))

    def _list_packets(self) -> tuple[list[int], list[int]] | None:
        """Time stamps of all packets and of the key frames'; None if they can't be relied on."""
        stamps: list[int] = []
        keys: list[int] = []
        with self._open() as (container, stream):
            trusted = bool(_SEEKABLE_FORMATS.intersection(container.format.name.split(",")))
            if not trusted or stream.codec_context.name not in _ONE_FRAME_PER_PACKET:
                return None
            try:
                for packet in container.demux(stream):
                    if packet.size == 0 or packet.is_discard:
                        continue  # the flush at the end; frames that an edit list hides
                    if packet.pts is None or not (stamps or packet.is_keyframe):
                        return None
                    stamps.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
            except av.error.InvalidDataError:
                # Damage between packets: decoding will tell which frame it hits.
                return None
        return stamps, keys

    def _probe(self, count: int) -> list[int | None]:
        """Set `size` and `fps` from the first frame; the time stamps of the first ``count``."""
        stamps: list[int | None] = []
        with self._open() as (container, stream):
            for frame in _decode(container, stream, strict=False):
                if not stamps:
                    height, width = frame.height, frame.width
                    turned = frame.rotation % 180 != 0
                    self.size = (width, height) if turned else (height, width)
                    rate = stream.average_rate or stream.guessed_rate
                    self.fps = float(rate) if rate else 24.0
                stamps.append(frame.pts)
                if len(stamps) >= count:
                    break
        if not stamps:
            raise InputError(f"{self._path} has no frame that can be decoded: re-encode the video")
        return stamps

    def _count_frames(self, limit: int | None) -> int:
        count = 0
        with self._open() as (container, stream):
            try:
                for _ in _decode(container, stream, strict=True):
                    count += 1
                    if count == limit:
                        break
            except av.error.InvalidDataError as error:
                raise InputError(
                    f"{self._path} is damaged at or soon after frame {count}: stop before it with "
                    "--end or re-encode the video"
                ) from error
        return count

    # Decoding

    def _ascending(self, numbers: range) -> Iterator[tuple[int, VideoFrame]]:
        done = 0
        try:
            for number, frame in self._decode_from(numbers, seek=True):
                yield number, frame
                done += 1
        except _Broken:
            # A seek can land badly (intra refresh, wrong flags); only a decode from the very
            # start proves that the frame itself is damaged.
            if self._key_before(numbers[done]) == 0:
                raise
            yield from self._decode_from(numbers[done:], seek=False)

    def _descending(self, numbers: range) -> Iterator[tuple[int, VideoFrame]]:
        height, width = self.size
        # Buffered frames are still in the codec's format, three bytes a pixel at the very most
        # for 8-bit video.
        cap = max(_LEAST_CHUNK, BACKWARD_BUFFER_BYTES // (3 * height * width))
        while numbers:
            key = self._key_before(numbers[0])
            in_group = (numbers[0] - key) // -numbers.step + 1
            chunk = numbers[: min(cap, max(in_group, _LEAST_CHUNK))]
            held = list(self._ascending(chunk[::-1]))
            while held:  # popping frees each frame as soon as it is consumed
                yield held.pop()
            numbers = numbers[len(chunk) :]

    def _decode_from(self, numbers: range, seek: bool) -> Iterator[tuple[int, VideoFrame]]:
        """(number, frame) of an ascending range. Raises `_Broken` at a frame that does not come."""
        expected = self._key_before(numbers[0]) if seek else 0
        index = self._index
        with self._open() as (container, stream):
            if index is not None and expected > 0:
                container.seek(int(index.pts[expected]), stream=stream)
            try:
                for frame in _decode(container, stream, strict=index is None):
                    if index is not None:
                        # Time stamps, not counts, tell which frame this is after a seek.
                        number = _find(index.pts, frame.pts)
                        if number is None or number < expected:
                            continue
                        if number > expected:
                            break
                    if frame.is_corrupt:
                        break
                    if expected in numbers:
                        yield expected, frame
                    if expected == numbers[-1]:
                        return
                    expected += 1
            except av.error.InvalidDataError as error:
                raise _Broken(expected) from error
        raise _Broken(expected)

    def _key_before(self, number: int) -> int:
        """Number of the frame at which decoding must start to reach ``number``."""
        if self._index is None:
            return 0
        return int(self._index.keys[np.searchsorted(self._index.keys, number, "right") - 1])

    def _to_rgb(self, number: int, frame: VideoFrame) -> np.ndarray:
        # Said outright: not every PyAV looks at the frame's own tag.
        matrix = Colorspace.ITU709 if frame.colorspace == _BT709 else Colorspace.DEFAULT
        rgb = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()
        if frame.rotation:
            rgb = np.rot90(rgb, round(frame.rotation / 90))
        if rgb.shape[:2] != self.size:
            raise InputError(
                f"frame {number} of {self._path} is {rgb.shape[1]}x{rgb.shape[0]} but the first is "
                f"{self.size[1]}x{self.size[0]}: all frames must have one size; re-encode the video"
            )
        return np.ascontiguousarray(rgb)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            # An absolute path: FFmpeg would take "a:b.mp4" for a protocol named "a".
            container = av.open(str(self._path.resolve()), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self._path} cannot be read as a video: {error.strerror}") from error
        with container:
            stream = container.streams.best("video")
            # FFmpeg draws any text file as a film of a terminal ("tty").
            if not isinstance(stream, VideoStream) or container.format.name == "tty":
                raise InputError(
                    f"{self._path} has no readable video in it: give a video or a folder of images"
                )
            if stream.codec_context is None:
                raise InputError(f"{self._path} uses a codec that is not available: re-encode it")
            stream.codec_context.thread_type = "AUTO"
            stream.codec_context.thread_count = 2
            if stream.codec_context.name not in _FLAGS_DAMAGE:
                # Without this decoders (Motion JPEG's above all) pass damage as success.
                stream.codec_context.options = {"err_detect": "bitstream+buffer+explode"}
            yield container, stream


def _decode(container: InputContainer, stream: VideoStream, strict: bool) -> Iterator[VideoFrame]:
    """Frames in the order of showing.

    ``strict`` raises `av.error.InvalidDataError` at damage; otherwise the damaged frame is left
    out, and the caller, who knows the time stamps, finds it missing.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.error.InvalidDataError:
            if strict:
                raise
            continue
        yield from frames


def _find(pts: np.ndarray, stamp: int | None) -> int | None:
    """Position of ``stamp`` in the ascending ``pts``, or None."""
    if stamp is None:
        return None
    position = int(np.searchsorted(pts, stamp))
    return position if position < len(pts) and pts[position] == stamp else None
