"""A model from elsewhere is measured as the identical network of our own is, and beside models with seeds."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions.measure import measure_corruptions
from ops.evaluate.external import bring_model
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.measure import measure_fairness
from ops.evaluate.measurements import read_measurements, split_name
from ops.evaluate.robustness import measure_robustness
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, save_classifier
from ops.models.config import Architecture
from ops.models.export import export_onnx
from ops.report.claims import judge_claims
from ops.report.config import Claim, ClaimsConfig

CPU = torch.device("cpu")
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
WIDE = Architecture(family="wide_resnet", depth=10, width=1, activation="relu")

NET = """
    import torch
    from torch import nn

    from parts.blocks import NetworkBlock, same

    class WideResNet(nn.Module):
        def __init__(self, depth=28, widen_factor=10, num_classes=10):
            super().__init__()
            self.register_buffer("mu", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("sigma", torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1), persistent=False)
            widths = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
            n = (depth - 4) // 6
            self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.block1 = NetworkBlock(n, widths[0], widths[1], 1)
            self.block2 = NetworkBlock(n, widths[1], widths[2], 2)
            self.block3 = NetworkBlock(n, widths[2], widths[3], 2)
            self.bn1 = nn.BatchNorm2d(widths[3])
            self.relu = nn.ReLU(inplace=True)
            self.fc = nn.Linear(widths[3], num_classes)

        def forward(self, x):
            out = self.conv1((x - self.mu) / self.sigma)
            out = self.block3(self.block2(self.block1(out)))
            out = self.relu(self.bn1(out))
            return self.fc(out.view(out.shape[0], out.shape[1], -1).mean(dim=2))
"""
BLOCKS = """
    import torch.nn.functional as F
    from torch import nn

    def same(x, conv):
        return conv(x) if conv.stride == (1, 1) else conv(F.pad(x, (0, 1, 0, 1)))

    class BasicBlock(nn.Module):
        def __init__(self, planes, out, stride):
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(out)
            self.relu = nn.ReLU(inplace=True)
            self.conv1 = nn.Conv2d(planes, out, 3, stride, padding=int(stride == 1), bias=False)
            self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
            self.shortcut = nn.Conv2d(planes, out, 1, stride, bias=False) if planes != out else None

        def forward(self, x):
            active = self.relu(self.bn1(x))
            y = self.conv2(self.relu(self.bn2(same(active, self.conv1))))
            return y + (x if self.shortcut is None else self.shortcut(active))

    class NetworkBlock(nn.Module):
        def __init__(self, n, planes, out, stride):
            super().__init__()
            self.layer = nn.Sequential(*(BasicBlock(out if i else planes, out, 1 if i else stride) for i in range(n)))

        def forward(self, x):
            return self.layer(x)
"""
RENAMED = {"head": "fc", "stem": "conv1", "norm.norm": "bn1", "blocks.0": "block1.layer.0", "blocks.1": "block2.layer.0",
           "blocks.2": "block3.layer.0", "norm1.norm": "bn1", "norm2.norm": "bn2"}  # fmt: skip


@pytest.fixture(scope="module")
def native(shards, tmp_path_factory):
    """Return a WideResNet of our own with the statistics of images, half of which it sees as one class, if only just."""
    images = open_images(shards, "test", tmp_path_factory.mktemp("cache"))
    x = images.batch(np.arange(len(images)))
    model = build_classifier(WIDE, 2, MEAN, STD, 0)
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        for _ in range(300):
            model.train()(x)
        model.head.bias -= model.eval()(x).median(dim=0).values
    return model.eval()


@pytest.fixture
def state(native):
    """Return its weights under the names of a published checkpoint, which parallel training prefixed."""
    found = {}
    for name, value in native.state_dict().items():
        if name in ("mean", "std"):
            continue
        for ours, theirs in RENAMED.items():
            name = name.replace(ours, theirs)
        found[f"module.{name}"] = value.clone().contiguous()
    return found


@pytest.fixture
def wide(elsewhere, state, shards, folders, recorder):
    """Return a function that brings that network from a folder as a model folder, and returns folder and summary."""

    def bring(tag="wide", **settings):
        base = {"object": "model:WideResNet", "arguments": {"depth": 10, "widen_factor": 1, "num_classes": 2}}
        files = {"parts/blocks.py": BLOCKS, ".hidden/x.py": "raise 1"} | settings.pop("files", {})
        folder, config = elsewhere(NET, state, tag, files, **(base | settings))
        out, cache = folders(f"store-{tag}", "cache")
        return out, bring_model(config, tag, folder, shards, out, cache, CPU, recorder)

    return bring


def save_native(native, folder):
    card = ModelCard(name="real", architecture=WIDE, classes=["bar", "disc"], image_size=32, mean=MEAN, std=STD, seed=0,
                     ancestor="")  # fmt: skip
    save_classifier(folder, native, card)
    return folder


def test_the_folder_is_a_model_folder_of_its_own(wide, native, folders):
    out, summary = wide()
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == [
        "code/model.py", "code/parts/blocks.py", "model.json", "model.safetensors",
    ]  # fmt: skip
    model, card = load_classifier(out, CPU)
    x = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(2)).to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), native(x))
    assert (card.seed, card.classes, card.architecture.family) == (-1, ["bar", "disc"], "external")
    assert not any(part.training for part in model.modules())
    assert ModelCard.model_validate(json.loads(card.model_dump_json())) == card
    for ask in (model.features, model.normalise):
        with pytest.raises(AmalgamError, match="model from elsewhere"):
            ask(x)
    assert not list(out.rglob("__pycache__"))
    assert summary.figures["parameters"] == sum(p.numel() for p in native.parameters())
    with torch.no_grad():
        assert export_onnx(out, folders("onnx")[0] / "wide.onnx") < 1e-3


def test_bytes_depend_on_the_model_only(wide):
    first, second = wide("a")[0], wide("a2")[0]
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    cards = [json.loads((folder / "model.json").read_text()) for folder in (first, second)]
    assert cards[0] | {"name": ""} == cards[1] | {"name": ""}


def robustness(models, shards, folders, recorder):
    config = RobustnessConfig.model_validate(
        {"splits": ["test"], "threats": [{"norm": "linf", "eps": 0.4 / 255}], "images": 40, "batch": 16,
         "attacks": [{"name": "pgd", "steps": 5}, {"name": "apgd-t", "steps": 5, "targets": 1}],
         "honesty": {"images": 8, "steps": 2}}
    )  # fmt: skip
    out, scratch, cache = folders("robustness", "scratch", "cache")
    measure_robustness(config, models, shards, out, scratch, cache, CPU, recorder)
    return out


def test_outcomes_are_those_of_the_same_network_built_here(wide, native, shards, folders, recorder, tmp_path):
    """And with models that have seeds beside it, all later stages take it."""
    models = {"external/wide": wide()[0]}
    for seed in (0, 1):
        models[f"classifier/real/seed-{seed}"] = save_native(native, tmp_path / f"real-{seed}")
    out = robustness(models, shards, folders, recorder)
    table = pq.read_table(out / "predictions.parquet").to_pandas()
    assert {name: sorted(set(part["seed"])) for name, part in table.groupby("model")} == {
        "external/wide": [-1], "classifier/real": [0, 1],
    }  # fmt: skip
    parts = [
        table[(table["model"] == m) & (table["seed"] == s)] for m, s in (("external/wide", -1), ("classifier/real", 0))
    ]
    theirs, ours = (part.sort_values(["threat", "id"]).reset_index(drop=True) for part in parts)
    assert len(theirs) == len(ours) == 48 + 40
    assert (theirs["id"] == ours["id"]).all()
    assert (theirs["predicted"] == ours["predicted"]).all()
    np.testing.assert_allclose(theirs["confidence"], ours["confidence"], atol=1e-5)
    for column in ("clean", "pgd", "apgd-t", "robust"):
        assert (theirs[column] != ours[column]).sum() <= 1, "an image on the boundary may fall to rounding"
    attacked = ours[ours["threat"] != "none"]
    assert 0 < attacked["robust"].sum() < attacked["clean"].sum(), "the attack does something, and not everything"
    later_stages(models, out, shards, folders, recorder)


def later_stages(models, out, shards, folders, recorder):
    fair, claims, corrupted, scratch, cache = folders("fairness", "claims", "corruptions", "scratch-c", "cache")
    measure_fairness(FairnessConfig(replicates=100), out, shards, fair, recorder)
    rows = read_measurements(fair)
    assert set(rows[rows["model"] == "external/wide"]["seed"]) == {-1}
    claim = {"source": "", "paper_effect": "", "measure": "robust", "splits": ["test"]}
    pairs = [("external/wide", "classifier/real"), ("classifier/real", "external/wide"), ("external/wide",) * 2]
    tests = [Claim(claim=str(n), better=b, than=t, **claim) for n, (b, t) in enumerate(pairs)]
    judge_claims(ClaimsConfig(tests=tests, replicates=100), out, fair, claims, recorder)
    verdicts = json.loads((claims / "claims.json").read_text())
    assert [v["seeds"] for v in verdicts] == [2, 2, 1], "it is compared with every seed of the other"
    assert [abs(v["effect"]) <= 1 / 40 for v in verdicts] == [True] * 3
    assert verdicts[0]["effect"] == -verdicts[1]["effect"]
    config = CorruptionsConfig(
        splits=["test"], corruptions=["fog"], severities=[3], images=12, replicates=100, baseline="external/wide"
    )
    measure_corruptions(config, models, shards, corrupted, scratch, cache, CPU, recorder)
    errors = read_measurements(corrupted)
    errors = errors[errors["metric"].str.startswith("mean corruption error (C-style)")]
    assert errors.groupby("model")["value"].mean().nunique() == 1


def test_a_seed_that_is_missing_is_still_an_error(wide, native, shards, folders, recorder, tmp_path):
    models = {
        f"classifier/{n}/seed-{s}": save_native(native, tmp_path / f"{n}{s}") for n, s in (("a", 0), ("b", 0), ("b", 1))
    }
    out = robustness(models, shards, folders, recorder)
    claim = Claim(claim="c", source="", paper_effect="", better="classifier/a", than="classifier/b", measure="clean",
                  splits=["test"])  # fmt: skip
    with pytest.raises(AmalgamError, match="not evaluated on the same images and seeds"):
        judge_claims(ClaimsConfig(tests=[claim], replicates=100), out, out, folders("claims")[0], recorder)


def test_a_softmax_is_noted_and_seen_by_the_evaluation(elsewhere, shards, folders, recorder):
    folder, config = elsewhere(forward="return LOGITS.softmax(dim=1)")
    out, cache = folders("soft", "cache")
    summary = bring_model(config, "soft", folder, shards, out, cache, CPU, recorder)
    assert "look like probabilities" in summary.figures["worth a look"]
    assert any("look like probabilities" in note for note in recorder.notes)
    found = robustness({"external/soft": out}, shards, folders, recorder)
    assert any(
        w.startswith("external/soft: outputs that look like probabilities")
        for w in json.loads((found / "honesty.json").read_text())["warnings"]
    )


def test_a_random_model_is_noted(elsewhere, shards, folders, recorder):
    folder, config = elsewhere(forward="return LOGITS + 0.01 * torch.randn(len(x), 2)")
    out, cache = folders("random", "cache")
    summary = bring_model(config, "random", folder, shards, out, cache, CPU, recorder)
    assert "draws random numbers" in summary.figures["worth a look"]


def test_classes_in_another_order_are_put_in_that_of_the_dataset(wide, native):
    out, summary = wide(classes=["disc", "bar"])
    model, card = load_classifier(out, CPU)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(x), native(x).flip(1))
    assert card.classes == ["bar", "disc"]
    same = wide("same", classes=["bar", "disc"])[1]
    (wrong,), (right,) = (
        [float(str(v)[:5]) for k, v in s.figures.items() if k.startswith("accuracy")] for s in (summary, same)
    )
    assert wrong == pytest.approx(1 - right, abs=1e-3)


def test_images_are_resized_inside_the_model(wide, native):
    """The gradient reaches the dataset's pixels; a side that is the dataset's changes nothing."""
    model, card = load_classifier(wide(image_size=16)[0], CPU)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    small = nn.functional.avg_pool2d(x.detach(), 2)
    assert (card.image_size, card.architecture.image_size) == (32, 16)
    logits = model(x)
    # a bilinear filter for half the side is a triangle, of four pixels in each direction
    kernel = torch.tensor([1, 3, 3, 1]) / 8
    window = (kernel[:, None] * kernel[None, :]).expand(3, 1, 4, 4)
    inner = nn.functional.conv2d(x.detach(), window, stride=2, padding=1, groups=3)
    resized = nn.functional.interpolate(x.detach(), (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(resized[..., 1:-1, 1:-1], inner[..., 1:-1, 1:-1])
    torch.testing.assert_close(logits, native(resized))
    assert not torch.allclose(logits, native(small), atol=1e-4)
    (gradient,) = torch.autograd.grad(logits.square().sum(), x)
    assert gradient.shape == x.shape
    assert (gradient != 0).float().mean() > 0.9
    as_is = load_classifier(wide("as-is", image_size=32)[0], CPU)[0]
    torch.testing.assert_close(as_is(x.detach()), native(x.detach()))


def test_a_module_for_another_resolution_says_so(elsewhere, shards, folders, recorder):
    code = """
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(3 * 8 * 8, 2)

            def forward(self, x):
                return self.fc(x.view(len(x), -1))
    """
    state = {"fc.weight": torch.randn(2, 192, generator=torch.Generator().manual_seed(0)), "fc.bias": torch.zeros(2)}
    folder, config = elsewhere(code, state)
    out, cache = folders("eight", "cache")
    with pytest.raises(AmalgamError, match=r"given images \(3, 32, 32\), raised RuntimeError") as caught:
        bring_model(config, "eight", folder, shards, out, cache, CPU, recorder)
    assert "image_size" in caught.value.remedy
    folder, config = elsewhere(code, state, image_size=8)
    bring_model(config, "eight", folder, shards, out, cache, CPU, recorder)
    assert load_classifier(out, CPU)[0](torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_published_figures_stand_beside_ours_and_are_no_measurements(wide):
    info = {"name": "A paper", "dataset": "cifar10", "eps": "8/255", "clean_acc": "89.69", "autoattack_acc": "59.53",
            "reported": "62.5", "unreliable": True, "venue": "NeurIPS 2019"}  # fmt: skip
    out, summary = wide(files={"info.json": json.dumps(info)}, info="info.json")
    (name,) = summary.tables
    assert name == "published figures (not measured here)"
    clean, robust = summary.tables[name]
    assert clean["published"] == "89.69 % on cifar10"
    assert clean["measured here"] == summary.figures["accuracy on 32 images of test"]
    assert robust["published"] == "59.53 % on cifar10, eps 8/255, called unreliable"
    assert json.loads((out / "published.json").read_text()) == info
    card = (out / "model.json").read_text()
    assert "89.69" not in card
    assert "59.53" not in card
    assert not list(out.rglob("*.parquet"))


def test_two_folders_with_the_same_file_names_do_not_meet(elsewhere, shards, folders, recorder):
    made = {}
    for name, factor in (("one", "1"), ("two", "2")):
        code = (
            "from torch import nn\nfrom factor import FACTOR\n"
            + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
    def forward(self, x):
        return FACTOR * self.fc(x.mean(dim=(2, 3)))
"""
        )
        folder, config = elsewhere(code, None, name, {"factor.py": f"FACTOR = {factor}\n"})
        out, cache = folders(name, "cache")
        bring_model(config, name, folder, shards, out, cache, CPU, recorder)
        made[name] = load_classifier(out, CPU)[0]
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(made["two"](x), 2 * made["one"](x))


def test_tied_weights_and_any_prefix(elsewhere, shards, folders, recorder, tiny_state):
    code = """
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(3, 2)
                self.twin = self.fc

            def forward(self, x):
                return self.twin(x.mean(dim=(2, 3)))
    """
    state = tiny_state | {f"twin.{k.removeprefix('fc.')}": v.clone() for k, v in tiny_state.items()}
    for tag, prefix in (("plain", ""), ("model", "model."), ("both", "module.model.")):
        folder, config = elsewhere(code, {prefix + k: v for k, v in state.items()}, tag)
        out, cache = folders(f"tied-{tag}", "cache")
        bring_model(config, tag, folder, shards, out, cache, CPU, recorder)
        model, _ = load_classifier(out, CPU)
        x = torch.rand(2, 3, 32, 32)
        expected = x.mean(dim=(2, 3)) @ tiny_state["fc.weight"].T + tiny_state["fc.bias"]
        torch.testing.assert_close(model(x), expected)


def test_names_without_a_seed():
    assert split_name("external/wide") == ("external/wide", -1)
    assert split_name("external/wide/seed--1") == ("external/wide", -1)
    assert split_name("classifier/real/seed-1") == ("classifier/real", 1)
