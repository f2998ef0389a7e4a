"""What a step is told: the same words are known as the same, and noise is as loud as was asked for."""

import numpy as np
import pytest
import torch

from vla.projectors._layers import noisy
from vla.train.objective import _same_text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_very_same_texts_are_known_among_many(dtype):
    """Vectors of CLIP are about 10 long; a distance by a product of matrices is then off by 0.003."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 30, 200)
    vectors = (rng.standard_normal((30, 64)) * 1.2).astype(np.float32)
    queries = torch.from_numpy(vectors[words]).to(dtype)
    assert torch.equal(_same_text(queries), torch.from_numpy(words[:, None] == words[None]))
    nearly = queries.clone()
    nearly[:, 5] *= 1 + 2e-7
    assert not _same_text(torch.cat([queries, nearly]))[:200, 200:].any()


def test_noise_has_its_deviation_and_no_memory():
    torch.manual_seed(0)
    found = noisy(torch.full((300, 401), 2.0), 0.5).double()
    assert float(found.mean()) == pytest.approx(2.0, abs=0.01)
    assert float(found.std()) == pytest.approx(0.5, rel=0.01)
    assert float((found[1:] * found[:-1]).mean()) == pytest.approx(4.0, abs=0.02)
    # as loud at every place of the words that it is cut from
    assert found.flatten()[: 4 * 30_000].view(-1, 4).std(0).tolist() == pytest.approx([0.5] * 4, rel=0.02)
