"""What an evaluation remembers of each model, so that only what has changed is evaluated again."""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.attack.threat import Threat
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import NO_THREAT
from ops.files import content_hash


def model_ledgers(home: Path, models: Mapping[str, Path], real: Path) -> dict[str, Path]:
    """Return a folder below `home` for every model, named by its content and that of the images in `real`.

    The manifest there has the hash of every image. Code is not in the name: `home` must be of just this. What settings
    give is told apart inside (`Ledger`).
    """
    manifest = (real / "manifest.parquet").read_bytes() + (real / "dataset.json").read_bytes()
    images = hashlib.sha256(manifest).hexdigest()
    ledgers = {}
    for name, folder in models.items():
        digest = hashlib.sha256(f"{content_hash(folder)} {images}".encode()).hexdigest()[:16]
        ledgers[name] = home / f"{name.replace('/', '-')}--{digest}"
        ledgers[name].mkdir(parents=True, exist_ok=True)
    return ledgers


@dataclass(frozen=True)
class Ledger:
    """Where in the folder of a model its outcomes are, each named by the settings on which it depends, and no others."""

    folder: Path
    config: RobustnessConfig

    def temperature(self) -> Path:
        """Return the place of the model's temperature (JSON)."""
        return self._place("temperature", ".json", **self._asked(), split=self.config.temperature_split)

    def probabilities(self, split: str) -> Path:
        """Return the place of what the model says of a split (Parquet)."""
        return self._place(f"{split}--probabilities", ".parquet", **self._asked(), split=split)

    def outcomes(self, split: str, threat: Threat | None) -> Path:
        """Return the place of the outcomes under a threat, or of images as they are (Parquet); with `.json`, of those so far.

        Those of images as they are have a column for each attack too, and confidences scaled by the temperature.
        """
        if threat is None:
            columns = {"attacks": self.config.attack_names(), "temperature": self.config.temperature_split}
            return self._place(f"{split}--{NO_THREAT}", ".parquet", **self._asked(), split=split, **columns)
        met = {
            "images": self.config.images,
            "threat": threat.model_dump(mode="json"),
            "attacks": [attack.model_dump(mode="json") for attack in self.config.attacks_in(threat.norm)],
        }
        return self._place(f"{split}--{threat.norm}-{threat.eps:.6f}", ".parquet", **self._asked(), split=split, **met)

    def probed(self) -> Path:
        """Return the folder of what probing the model gave."""
        config = self.config
        probed = {
            "honesty": config.honesty.model_dump(mode="json"),
            "images": min(config.images, config.honesty.images),
            "threat": config.threats[0].model_dump(mode="json"),
        }
        return self._place("honesty", "", **self._asked(), split=config.attacked_splits()[0], **probed)

    def used(self) -> list[Path]:
        """Return all places that an evaluation with these settings needs."""
        config = self.config
        asked = dict.fromkeys([*config.splits, config.temperature_split])
        attacked = [self.outcomes(split, threat) for split in config.attacked_splits() for threat in config.threats]
        plain = [self.outcomes(split, None) for split in config.splits]
        return [self.temperature(), self.probed(), *map(self.probabilities, asked), *plain, *attacked]

    def _asked(self) -> dict[str, Any]:
        """Return the settings on which depends what a model says of an image."""
        return {"batch": self.config.batch, "passes": self.config.passes(), "seed": self.config.seed}

    def _place(self, stem: str, suffix: str, **settings: Any) -> Path:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{stem}--{digest}{suffix}"


def forget_others(home: Path, used: Collection[Path]) -> None:
    """Remove everything below `home` that is not one of `used` (files or folders), nor in one of them."""
    kept = set(used)
    leading = {parent for path in kept for parent in path.parents}
    for path in home.iterdir():
        if path in kept:
            continue
        if path in leading:
            forget_others(path, kept)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
