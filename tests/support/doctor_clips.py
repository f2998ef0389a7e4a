"""Make the clips that `vla doctor` decodes: `python tests/support/doctor_clips.py`. They are kept in the repository, since not every
PyAV has the encoders.

Each has FRAMES frames, a quarter of a second each; a frame is four quarters in four of COLOURS, moved on by one from frame to frame.
"""

import av

from vla.workflows.doctor_trials import CLIPS, picture

ENCODERS = {
    "h264": ("libx264", "mp4", {"preset": "veryslow"}),
    "hevc": ("libx265", "mp4", {"x265-params": "log-level=none:info=0"}),
    "vp8": ("libvpx", "webm", {}),
    "vp9": ("libvpx-vp9", "webm", {"lag-in-frames": "0"}),
    "av1": ("libsvtav1", "mp4", {"svtav1-params": "lookahead=0"}),
    "mpeg4": ("mpeg4", "mp4", {}),
    "mpeg2video": ("mpeg2video", "mkv", {}),
    "mjpeg": ("mjpeg", "mkv", {}),
    "prores": ("prores_ks", "mov", {}),
}


def write(codec, folder):
    """A clip of `codec` in `folder`."""
    encoder, suffix, options = ENCODERS[codec]
    path = folder / f"{codec}.{suffix}"
    with av.open(str(path), "w") as output:
        rate = 24 if codec == "mpeg2video" else 4
        stream = output.add_stream(encoder, rate=rate, options=options)
        stream.width, stream.height = 64, 64
        formats = {"mjpeg": "yuvj420p", "prores": "yuv422p10le"}
        stream.pix_fmt = formats.get(codec, "yuv420p")
        for number in range(rate):
            frame = av.VideoFrame.from_ndarray(picture(number * 4 // rate), format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    for codec in ENCODERS:
        path = write(codec, CLIPS)
        print(path.name, path.stat().st_size)
