"""How near `vla extract` comes to what the hardware allows, and how far ahead of the usual loop it is, in one run.

    python tests/benchmarks/extract.py [FOLDER] [--fps 1] [--seconds 30] [--model ViT-B-32] [--kinds h264-720p ...]

Makes videos (kept and reused) and a model with random weights, which is as fast as a trained one. `--model offline` measures
that preset, with its packages and without the common loop. For each kind of video:

- decode, preprocess, encode: each measured alone with all cores (one process a core for the first two), wall-clock seconds
  for all videos; their sum is the floor of a machine whose processor does all three.
- extract: `vla extract` from the first file to the last receipt, the model loaded before.
- common loop: what people write: PyAV, every frame decoded, PIL transform, float32 batches of 32.

Ratios are of one run on one machine; "cosine" is the lowest between a feature of ours and the loop's of the same frame.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vla.encoders.base import Encoder

KINDS = {
    "h264-1080p": ("libx264", 1920, 1080, {"preset": "veryfast", "g": "60"}, "mp4"),
    "h264-720p": ("libx264", 1280, 720, {"preset": "veryfast", "g": "60"}, "mp4"),
    "h264-360p": ("libx264", 640, 360, {"preset": "veryfast", "g": "300"}, "mp4"),
    "hevc-720p": ("libx265", 1280, 720, {"preset": "ultrafast", "g": "60", "x265-params": "log-level=none"}, "mp4"),
    "vp9-720p": ("libvpx-vp9", 1280, 720, {"deadline": "realtime", "cpu-used": "8", "g": "150", "row-mt": "1"}, "webm"),
}  # fmt: skip
RATE = 30


def make_video(path: Path, kind: str, seconds: int, seed: int) -> None:
    """Smooth texture that drifts, things that move over it, a cut every four seconds, and grain."""
    codec, width, height, options, _ = KINDS[kind]
    rng = np.random.default_rng(seed)
    partial = path.with_name(f".{path.name}")
    with av.open(str(partial), "w", format="mp4" if path.suffix == ".mp4" else "webm") as container:
        stream = container.add_stream(codec, rate=RATE, options={**options, "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        grain = rng.integers(-6, 7, (8, height, width, 1), np.int16)
        for i in range(seconds * RATE):
            if i % (4 * RATE) == 0:
                coarse = rng.integers(0, 255, (height // 40, width // 40 + 8, 3), np.uint8)
                wide = av.VideoFrame.from_ndarray(coarse).reformat(
                    width + 320, height, "rgb24", interpolation="BICUBIC"
                )
                scene = wide.to_ndarray().astype(np.int16)
            pixels = scene[:, i % 120 : i % 120 + width] + grain[i % 8]
            for k in range(3):
                x, y = (i * (7 + 4 * k) + 300 * k) % (width - 160), (height // 4) * k + 40
                pixels[y : y + height // 6, x : x + 160] = (40 + 80 * k, 200 - 60 * k, 120)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8)))
            )
        container.mux(stream.encode(None))
    partial.replace(path)


def save_model(name: str, folder: Path) -> None:
    """An untrained model in open_clip's own layout."""
    import json

    import open_clip
    from safetensors.torch import save_file

    if (folder / "open_clip_config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    model, _, _ = open_clip.create_model_and_transforms(name, pretrained=None)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {
        "model_cfg": open_clip.get_model_config(name),
        "preprocess_cfg": open_clip.get_model_preprocess_cfg(model),
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def decode_one(job: tuple[Path, float]) -> tuple[int, float]:
    """Frames of a video, and the processor seconds it took to decode them."""
    from vla.decoders.pyav import Decoder
    from vla.sampling import at_fps

    began = time.process_time()
    with Decoder().open(job[0]) as reader:
        count = sum(len(f) for f in reader.sample(at_fps(job[1]), 4))
    return count, time.process_time() - began


def prepare_one(job: tuple[np.ndarray, int, object]) -> float:
    """Processor seconds to bring `count` pictures to the encoder's size."""
    import torch

    torch.set_num_threads(1)
    picture, count, preprocess = job
    frames = np.repeat(picture[None], 4, 0)
    preprocess(frames)
    began = time.process_time()
    for _ in range(-(-count // 4)):
        preprocess(frames)
    return time.process_time() - began


def encode_together(encoder: Encoder, picture: np.ndarray) -> float:
    """Seconds a frame when one call has all cores."""
    batch = encoder.prepare(np.repeat(picture[None], 32, 0))
    encoder.encode_frames(batch)
    began = time.perf_counter()
    for _ in range(3):
        encoder.encode_frames(batch)
    return (time.perf_counter() - began) / 96


def encode_side_by_side(encoder: Encoder, picture: np.ndarray) -> float:
    """Seconds a frame when each core has calls of its own."""
    batch = encoder.prepare(np.repeat(picture[None], 32, 0))
    with encoder.one_thread_per_call(), ThreadPoolExecutor(encoder.max_concurrency) as pool:
        list(pool.map(encoder.encode_frames, [batch] * encoder.max_concurrency))
        began = time.perf_counter()
        list(pool.map(encoder.encode_frames, [batch] * (2 * encoder.max_concurrency)))
        return (time.perf_counter() - began) / (64 * encoder.max_concurrency)


def common_loop(
    paths: list[Path], fps: float, model_folder: Path
) -> tuple[dict[str, np.ndarray], float]:
    """Features by file name, and seconds; the model is loaded before the clock starts."""
    import open_clip
    import torch

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{model_folder}")
    model.eval()
    found = {}
    began = time.perf_counter()
    for path in paths:
        images, features = [], []
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            step, wanted, latest = 1 / Fraction(fps), Fraction(0), None
            origin = None
            for frame in container.decode(stream):
                moment = frame.pts * stream.time_base
                origin = moment if origin is None else origin
                while latest is not None and wanted < moment - origin:
                    images.append(transform(latest.to_image()))
                    wanted += step
                latest = frame
            # WebM rounds times to milliseconds: the end is not known better than that.
            if (
                latest is not None
                and wanted
                < latest.pts * stream.time_base
                - origin
                + 1 / stream.average_rate
                - Fraction(1, 500)
            ):
                images.append(transform(latest.to_image()))
        with torch.no_grad():
            for start in range(0, len(images), 32):
                features.append(model.encode_image(torch.stack(images[start : start + 32])))
        found[path.name] = torch.cat(features).numpy()
    return found, time.perf_counter() - began


def measure(
    kind: str, paths: list[Path], folder: Path, model_folder: Path | None, fps: float
) -> dict[str, float]:
    """Everything about one kind of video, in seconds; without a folder, that of the preset `offline`."""
    from vla.cache.build import extract_videos
    from vla.cache.plan import make_plan
    from vla.cache.store import EncoderSource, FeatureCache
    from vla.cache.workers import default_workers
    from vla.decoders import DEFAULT, registry
    from vla.encoders import registry as encoders
    from vla.sampling import at_fps
    from vla.storage.workspace import Workspace

    cores = len(os.sched_getaffinity(0))
    encoder = (
        encoders.build("open_clip", {"model": f"local-dir:{model_folder}"})
        if model_folder
        else encoders.build("conse")
    )
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(decode_one, [(paths[0], 0.2)] * cores, 1)  # imports are not what is measured
        began = time.perf_counter()
        decoded = pool.map(decode_one, [(p, fps) for p in paths], 1)
        decode = time.perf_counter() - began
        frames = sum(n for n, _ in decoded)
        with registry.build("pyav").open(paths[0]) as reader:
            picture = next(reader.sample(at_fps(1), 1)).pixels[0]
        share = -(-frames // cores)
        began = time.perf_counter()
        spent = pool.map(prepare_one, [(picture, share, encoder._preprocess)] * cores, 1)
        prepare = max(spent)
    encode = min(encode_together(encoder, picture), encode_side_by_side(encoder, picture)) * frames

    shutil.rmtree(folder / ".vla", ignore_errors=True)
    place = Workspace.open_or_create(folder)
    spec = encoder.identity.spec(str(at_fps(fps)))
    cache = FeatureCache.create(
        place.caches, spec, EncoderSource(encoder.identity.encoder, "x", "")
    )
    decoder = registry.build(DEFAULT)
    decoder.probe(paths[0])  # starts a child, as loading the model is not measured either
    report = extract_videos(
        cache,
        encoder,
        decoder,
        make_plan(cache, paths, place),
        at_fps(fps),
        workers=default_workers(),
    )
    decoder.close()
    nothing: dict[str, np.ndarray] = {}
    loop, loop_seconds = (
        common_loop(paths, fps, model_folder) if model_folder else (nothing, float("nan"))
    )
    lowest = 1.0 if model_folder else float("nan")
    for path in paths if model_folder else ():
        ours = cache.frames(place.video_id(path)).values.astype(np.float64)
        theirs = loop[path.name].astype(np.float64)
        cosine = (
            (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        )
        lowest = min(lowest, float(cosine.min()))
    return {
        "frames": frames, "decode": decode, "prepare": prepare, "encode": encode, "extract": report.seconds,
        "loop": loop_seconds, "cosine": lowest,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("extract-benchmark"))
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    model_folder = folder / arguments.model if arguments.model != "offline" else None
    if model_folder:
        save_model(arguments.model, model_folder)
    print(f"{arguments.videos} videos of {arguments.seconds} s, {arguments.fps:g} frames/s, {arguments.model}, "
          f"{len(os.sched_getaffinity(0))} cores\n")  # fmt: skip
    print(
        "| video | decode s | preprocess s | encode s | floor s | extract s | extract / floor | common loop s | loop / extract | cosine |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        paths = [
            folder / f"{kind}-{i}-{arguments.seconds}.{KINDS[kind][4]}"
            for i in range(arguments.videos)
        ]
        missing = [p for p in paths if not p.is_file()]
        with multiprocessing.get_context("spawn").Pool() as pool:
            pool.starmap(
                make_video,
                [(p, kind, arguments.seconds, int(p.stem.split("-")[2])) for p in missing],
                1,
            )
        m = measure(kind, paths, folder, model_folder, arguments.fps)
        floor = m["decode"] + m["prepare"] + m["encode"]
        print(
            f"| {kind} | {m['decode']:.1f} | {m['prepare']:.1f} | {m['encode']:.1f} | {floor:.1f} | {m['extract']:.1f} | "
            f"{m['extract'] / floor:.2f} | {m['loop']:.1f} | {m['loop'] / m['extract']:.1f} | {m['cosine']:.5f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
