"""Decoding and encoding side by side: a thread for each video that is decoded, and threads that encode.

What is in a batch depends on one video alone, so a video's features are the same bits whatever was extracted before,
beside or after it, and whatever was interrupted in between.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vla.cache.attempt import Attempt, ChunkDone, VideoResult
from vla.cache.decoder_check import require_health
from vla.cache.memory_budget import Budget
from vla.decoders.base import Decoder
from vla.encoders.base import Encoder
from vla.sampling import Sampling

_Message = ChunkDone | VideoResult | BaseException


class Workers:
    """A thread for each video that is decoded, and as many threads that encode as the encoder can make use of.

    Chunks of one long video are encoded side by side as well as those of many short ones. Memory grows with neither.
    A failure that the machine may have caused is no verdict: the decoder has to show that it works, and the video is tried
    once more, alone, after all others.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, sampling: Sampling, workers: int) -> None:
        self._encoder, self._decoder, self._workers = encoder, decoder, workers
        self._messages: queue.Queue[_Message] = queue.Queue(4 * workers)
        self._stop = threading.Event()
        self._room = threading.Semaphore(encoder.max_concurrency + workers)
        self._encoding = ThreadPoolExecutor(max_workers=encoder.max_concurrency, thread_name_prefix="encode")
        self._attempt = Attempt(encoder, decoder, sampling, Budget(), self._submit, self._still)

    def run(self, todo: list[tuple[str, Path]]) -> Generator[ChunkDone | VideoResult, None, None]:
        """What is encoded, chunk by chunk, and each video when it is done.

        Raises:
            ResourceError, EnvironmentUnfitError: the decoder does not work on this machine now.
        """
        with (
            self._encoder.one_thread_per_call(),
            self._encoding,
            ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="decode") as decoding,
        ):
            try:
                doubtful = yield from self._tried(decoding, todo)
                for one in doubtful:
                    yield from self._tried(decoding, [one], alone=True)
            finally:
                self._stop.set()
                decoding.shutdown(wait=True, cancel_futures=True)

    def _tried(
        self, decoding: ThreadPoolExecutor, todo: list[tuple[str, Path]], *, alone: bool = False
    ) -> Generator[ChunkDone | VideoResult, None, list[tuple[str, Path]]]:
        """The messages of all in `todo`; returns those that are to be tried again, which is none of those `alone`."""
        for video_id, path in todo:
            decoding.submit(self._work, video_id, path)
        doubtful: list[tuple[str, Path]] = []
        left, paths = len(todo), dict(todo)
        while left:
            item = self._messages.get()
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, VideoResult):
                left -= 1
                if item.doubt is not None and not alone:
                    doubtful.append((item.receipt.video_id, paths[item.receipt.video_id]))
                    continue
            yield item
        return doubtful

    def _work(self, video_id: str, path: Path) -> None:
        if self._stop.is_set():
            return
        try:
            worked = self._attempt.at(video_id, path)
            if worked.doubt is not None:
                require_health(self._decoder, worked.doubt)
            self._put(worked)
        except _StoppedError:
            pass
        except BaseException as error:
            self._put(error)

    def _submit(self, pixels: np.ndarray, encoded: ChunkDone) -> Future[np.ndarray]:
        while not self._room.acquire(timeout=0.2):
            self._still()
        return self._encoding.submit(self._encode, pixels, encoded)

    def _encode(self, pixels: np.ndarray, encoded: ChunkDone) -> np.ndarray:
        try:
            self._still()
            values = self._encoder.encode_frames(pixels)
        finally:
            self._room.release()
        self._put(encoded)
        return values

    def _still(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _put(self, item: _Message) -> None:
        while not self._stop.is_set():
            try:
                self._messages.put(item, timeout=0.2)
                return
            except queue.Full:
                continue


class _StoppedError(Exception):
    """The extraction ends before this video does."""


def default_workers() -> int:
    """Decoding threads: one for each core, at most 8; more only wait for the encoder."""
    return max(1, min(8, os.cpu_count() or 1))
