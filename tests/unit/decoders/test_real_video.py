"""Real videos, if present."""

import numpy as np
import pytest

from support.shared_data import SHARED
from vla.decoders.pyav import Decoder
from vla.sampling import at_fps

VIDEO = SHARED / "videos" / "v_GGSY1Qvo990.mp4"


@pytest.mark.skipif(not VIDEO.is_file(), reason="shared data: not here")
def test_native_timestamps_match_published_ones():
    """CLIP features of ActivityNet videos came with the times of their frames, at the video's own 19.62 a second."""
    published = np.load(SHARED / "features" / "v_GGSY1Qvo990_clip_vitb32.npz")
    for rate in (float(published["fps"]), 240.0):
        with Decoder().open(VIDEO) as reader:
            times = np.concatenate([f.timestamps_seconds for f in reader.sample(at_fps(rate), 8)])
        np.testing.assert_allclose(times * 1000, published["timestamps_ms"], rtol=0, atol=1e-6)
