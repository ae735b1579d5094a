"""What the generator is told: caption, label, domain, attributes, each of which can be left out.

Every conditioning has a null of its own, and each is dropped independently in training, so that guidance can be
composed per conditioning at sampling time. (diffusers' transformer drops labels inside each block separately, which
never trains the joint null; so nothing is left to the library here.)
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ops.errors import AmalgamError
from ops.generate.text import MINILM, TextTokens


@dataclass(frozen=True)
class Conditions:
    """The conditioning of a batch."""

    tokens: torch.Tensor
    """(B, T, W) caption tokens; W is the width of the text encoder."""
    mask: torch.Tensor
    """(B, T) bool; all false where the caption is dropped."""
    codes: torch.Tensor
    """(B, F) int64: label, domain, then attributes in alphabetical order; the size of a vocabulary means dropped."""

    def null(self, sizes: Sequence[int]) -> "Conditions":
        """Return the same batch with everything dropped."""
        return Conditions(
            self.tokens,
            torch.zeros_like(self.mask),
            torch.tensor(sizes, device=self.codes.device).expand_as(self.codes),
        )

    def only(self, names: Sequence[str], sizes: Sequence[int], kept: Collection[str]) -> "Conditions":
        """Return the same batch with everything dropped but `kept`: some of `names` (of the codes) and "caption"."""
        missing = torch.tensor([name not in kept for name in names], device=self.codes.device)
        codes = torch.where(missing, torch.tensor(sizes, device=self.codes.device), self.codes)
        mask = self.mask if "caption" in kept else torch.zeros_like(self.mask)
        return Conditions(self.tokens, mask, codes)

    def rows(self, take: Callable[[torch.Tensor], torch.Tensor]) -> "Conditions":
        """Return the rows that `take` takes of each part."""
        return Conditions(take(self.tokens), take(self.mask), take(self.codes))

    def to(self, device: torch.device) -> "Conditions":
        """Return the batch on `device`."""
        return Conditions(self.tokens.to(device), self.mask.to(device), self.codes.to(device))


class Conditioner(ModelMixin, ConfigMixin):
    """Turns `Conditions` into tokens for cross-attention and one vector for the time embedding."""

    @register_to_config
    def __init__(
        self,
        names: list[str],
        values: list[list[str]],
        context: int,
        embedding: int,
        max_tokens: int,
        encoder: str = MINILM,
        width: int = 384,
        token: bool = False,
    ) -> None:
        super().__init__()
        self.text = nn.Linear(width, context)
        self.to_token = nn.Linear(embedding, context) if token else None
        self.null_text = nn.Parameter(torch.zeros(context))
        self.tables = nn.ModuleList(nn.Embedding(len(each) + 1, embedding) for each in values)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.02)  # type: ignore[arg-type]

    @property
    def names(self) -> list[str]:
        """What has a code: label, domain, then attributes in alphabetical order."""
        return list(self.config["names"])

    @property
    def sizes(self) -> list[int]:
        """The size of each vocabulary, which is also the code of its null."""
        return [len(each) for each in self.config["values"]]

    def forward(self, conditions: Conditions) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (B, T, context) and a vector (B, embedding); masked tokens are the learned null."""
        tokens = self.text(conditions.tokens.to(self.text.weight.dtype))
        tokens = torch.where(conditions.mask[:, :, None], tokens, self.null_text.to(tokens.dtype))
        parts = [table(codes) for table, codes in zip(self.tables, conditions.codes.unbind(1), strict=True)]
        return tokens, torch.stack(parts).sum(dim=0)

    def as_token(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the vector (B, embedding) as one token (B, 1, context), for networks that only attend."""
        assert self.to_token is not None
        return self.to_token(vector)[:, None]

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        """Return the codes (B, F) of rows with label, domain and attributes; None is the null.

        Raises AmalgamError for a value that training did not know, or an attribute that is missing.
        """
        return torch.tensor([[self._code(name, row) for name in self.config["names"]] for row in rows])

    def _code(self, name: str, row: Mapping[str, Any]) -> int:
        values = self.config["values"][self.config["names"].index(name)]
        found = row if name in ("label", "domain") else row["attributes"]
        if name not in found:
            raise AmalgamError(
                f"a row has no {name}, which the generator is conditioned on", "give each row one, or null"
            )
        value = found[name]
        if value is None:
            return len(values)
        if value not in values:
            raise AmalgamError(
                f"the generator does not know the {name} {value!r}", f"plan with one of: {', '.join(values)}"
            )
        return int(values.index(value))


def vocabularies_of(table: Any, dataset: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the values that occur in a training table, where null is none: label, domain, then each attribute."""
    found = {"label": list(dataset["classes"]), "domain": sorted(set(table["domain"].dropna()))}
    empty = sorted(set(found["label"]) - set(table["label"]))
    if empty:
        raise AmalgamError(
            f"no training image is of class {', '.join(empty)}", "lower curated_manifest's demands, or bring images"
        )
    return found | {name: list(values) for name, values in sorted(dataset["attributes"].items())}


def drop(
    conditions: Conditions, sizes: Sequence[int], each: float, everything: float, random: torch.Tensor
) -> Conditions:
    """Return `conditions` with parts dropped, by `random` (B, F + 2) uniform in [0, 1).

    Column 0 drops everything with probability `everything`; column 1 the caption and the others one code each with
    probability `each`.
    """
    whole = random[:, :1] < everything
    mask = conditions.mask & ~(whole | (random[:, 1:2] < each))
    dropped = whole | (random[:, 2:] < each)
    return Conditions(conditions.tokens, mask, torch.where(dropped, torch.tensor(sizes), conditions.codes))


def gather(text: TextTokens, captions: torch.Tensor, codes: torch.Tensor) -> Conditions:
    """Return the conditions of a batch from caption rows (B,) and codes (B, F)."""
    return Conditions(text.tokens[captions], text.mask[captions], codes)
