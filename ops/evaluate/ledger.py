"""What an evaluation remembers of each model, so that only what has changed is evaluated again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.attack.threat import Threat
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import NO_THREAT
from ops.evaluate.remembered import model_folders, short_digest


def model_ledgers(home: Path, models: Mapping[str, Path], real: Path) -> dict[str, Path]:
    """Return a folder below `home` for every model, named by its content and that of the images in `real`.

    The manifest there has the hash of every image. What settings give is told apart inside (`Ledger`).
    """
    manifest = (real / "manifest.parquet").read_bytes() + (real / "dataset.json").read_bytes()
    ledgers = model_folders(home, models, hashlib.sha256(manifest).hexdigest())
    for folder in ledgers.values():
        folder.mkdir(parents=True, exist_ok=True)
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
        return self.folder / f"{stem}--{short_digest(json.dumps(settings, sort_keys=True))}{suffix}"
