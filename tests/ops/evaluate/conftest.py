"""Models from elsewhere, as people publish them: a folder with Python code and a file of weights."""

import textwrap

import pytest
import torch
from safetensors.torch import save_file

from ops.models.external.config import ExternalModel

TINY = '''
    import torch
    from torch import nn

    class Net(nn.Module):
        """A linear classifier of the mean colour."""

        def __init__(self, num_classes=2):
            super().__init__()
            self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5), persistent=False)
            self.fc = nn.Linear(3, num_classes)

        def forward(self, x):
            return LOGITS
'''
LOGITS = "self.fc((x - self.mean).mean(dim=(2, 3)))"


@pytest.fixture
def tiny_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        "fc.weight": torch.randn(2, 3, generator=generator),
        "fc.bias": 0.02 * torch.randn(2, generator=generator),
    }


@pytest.fixture
def elsewhere(tmp_path, tiny_state):
    """Return a function that writes such a folder and returns it with the settings that name it.

    `forward` takes the place of the forward pass; LOGITS in it are those of the network.
    """

    def make(code=TINY, state=None, name="theirs", files=None, forward="return LOGITS", **settings):
        code = code.replace("return LOGITS", forward).replace("LOGITS", LOGITS)
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in {"model.py": code, **(files or {})}.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(textwrap.dedent(text))
        save_file(tiny_state if state is None else state, folder / "weights.safetensors")
        base = {"folder": f"data/{name}", "object": "model:Net", "weights": "weights.safetensors", "images": 32}
        return folder, ExternalModel.model_validate(base | settings)

    return make
