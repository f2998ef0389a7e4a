"""Concurrent extraction: one thread for each video that is decoded, and a pool of encoding threads.

A batch holds frames of one video only. Hence the features of a video have the same bits whatever was
extracted before, beside or after it, and whatever was interrupted in between.
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
from vla.cache.memory_budget import MemoryBudget
from vla.decoders.base import Decoder
from vla.encoders.base import Encoder
from vla.sampling import Sampling

_Message = ChunkDone | VideoResult | BaseException


class Workers:
    """Decoding threads, one for each video in progress, and as many encoding threads as the encoder supports.

    Chunks of one long video are encoded in parallel, like chunks of many short ones. Memory is bounded
    either way. A failure that the machine may have caused is not final: the decoder is tested on a clip
    of known content, and the video is tried once more, alone, after all others.
    """

    def __init__(
        self, encoder: Encoder, decoder: Decoder, sampling: Sampling, workers: int
    ) -> None:
        self._encoder, self._decoder, self._workers = encoder, decoder, workers
        self._messages: queue.Queue[_Message] = queue.Queue(4 * workers)
        self._stop = threading.Event()
        self._slots = threading.Semaphore(encoder.max_concurrency + workers)
        self._encoding = ThreadPoolExecutor(
            max_workers=encoder.max_concurrency, thread_name_prefix="encode"
        )
        self._attempt = Attempt(
            encoder, decoder, sampling, MemoryBudget(), self._submit, self._check_stop
        )

    def run(self, todo: list[tuple[str, Path]]) -> Generator[ChunkDone | VideoResult, None, None]:
        """Extract all videos; yield each chunk when it is encoded and each video when it is done.

        Raises:
            ResourceError: the decoder does not work on this machine, for lack of resources.
            EnvironmentUnfitError: the decoder does not work on this machine, for another reason.
        """
        with (
            self._encoder.one_thread_per_call(),
            self._encoding,
            ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="decode") as decoding,
        ):
            try:
                doubtful = yield from self._run_all(decoding, todo)
                for video in doubtful:
                    yield from self._run_all(decoding, [video], alone=True)
            finally:
                self._stop.set()
                decoding.shutdown(wait=True, cancel_futures=True)

    def _run_all(
        self, decoding: ThreadPoolExecutor, todo: list[tuple[str, Path]], *, alone: bool = False
    ) -> Generator[ChunkDone | VideoResult, None, list[tuple[str, Path]]]:
        """Yield the messages of all videos in `todo`; return those to try again, which are none if `alone`."""
        for video_id, path in todo:
            decoding.submit(self._work, video_id, path)
        doubtful: list[tuple[str, Path]] = []
        num_pending, paths = len(todo), dict(todo)
        while num_pending:
            message = self._messages.get()
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, VideoResult):
                num_pending -= 1
                if message.doubt is not None and not alone:
                    doubtful.append((message.receipt.video_id, paths[message.receipt.video_id]))
                    continue
            yield message
        return doubtful

    def _work(self, video_id: str, path: Path) -> None:
        if self._stop.is_set():
            return
        try:
            result = self._attempt.run(video_id, path)
            if result.doubt is not None:
                require_health(self._decoder, result.doubt)
            self._put(result)
        except _StoppedError:
            pass
        except BaseException as error:
            self._put(error)

    def _submit(self, pixels: np.ndarray, message: ChunkDone) -> Future[np.ndarray]:
        while not self._slots.acquire(timeout=0.2):
            self._check_stop()
        return self._encoding.submit(self._encode, pixels, message)

    def _encode(self, pixels: np.ndarray, message: ChunkDone) -> np.ndarray:
        try:
            self._check_stop()
            values = self._encoder.encode_frames(pixels)
        finally:
            self._slots.release()
        self._put(message)
        return values

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _put(self, message: _Message) -> None:
        while not self._stop.is_set():
            try:
                self._messages.put(message, timeout=0.2)
                return
            except queue.Full:
                continue


class _StoppedError(Exception):
    """Raised in worker threads when the extraction ends before their video does."""


def default_workers() -> int:
    """Return the number of decoding threads: one for each core, at most 8; more would wait for the encoder."""
    return max(1, min(8, os.cpu_count() or 1))
