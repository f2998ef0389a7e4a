"""`vla` as a library: a few clips in, the best moments for a sentence out.

python examples/quickstart.py [FOLDER]
"""

import sys
from pathlib import Path

import vla
from vla.world.clips import plan_clips
from vla.world.render import write_clip


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart-out")
    folder.mkdir(parents=True, exist_ok=True)
    for clip in plan_clips("train", 6, seed=0):
        write_clip(clip.scene, folder / clip.name)

    # `model="demo"` is the embedded encoder, for rendered shapes only; leave it out for real videos.
    report = vla.extract([folder], workspace=folder, model="demo")
    print(f"{report.frames} frames of {len(report.receipts)} videos")
    vla.index(workspace=folder)
    for hit in vla.open_workspace(folder).search("something moves to the left", k=3):
        print(f"{hit.rank}. {hit.video_id} {hit.start:.1f}-{hit.end:.1f} s, score {hit.score:.3f}")


if __name__ == "__main__":
    main()
