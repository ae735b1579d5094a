"""What can be wrong with a model from elsewhere is one short sentence with a remedy."""

import json
import re
import sys

import pytest
import torch
from pydantic import ValidationError

from ops.errors import AmalgamError
from ops.evaluate.external import bring_model
from ops.models.external.config import ExternalModel

CPU = torch.device("cpu")


@pytest.fixture
def bring(elsewhere, shards, folders, recorder):
    def run(**settings):
        folder, config = elsewhere(**settings)
        out, cache = folders("external", "cache")
        return bring_model(config, "theirs", folder, shards, out, cache, CPU, recorder)

    return run


BAD_CODE = {
    "syntax": ("def Net(:\n", r"importing model raised SyntaxError.*invalid syntax"),
    "no package": ("import nowhere_to_be_found\n", r"raised ModuleNotFoundError \(model\.py, line 1\).*nowhere_to_be"),
    "exits": ("import sys\nsys.exit(3)\n", r"importing model raised SystemExit \(model\.py, line 2\): 3"),
    "no module": ("def Net():\n    return 3\n", r"model:Net returns int, no torch\.nn\.Module"),
    "raises": (
        "def Net():\n    raise ValueError('bad\\nluck')\n",
        r"\(\) raised ValueError \(model\.py, line 2\): bad$",
    ),
    "attribute": ("class Nett: pass\n", r"model has no class or function 'Net'"),
    "value": ("Net = 3\n", r"something else than a class or function called 'Net'"),
    "instance": ("from torch import nn\nNet = nn.Identity()\n", r"something else than a class or function"),
}
BAD_FORWARD = {
    "forward": ("return x.nonsense", r"given images \(3, 32, 32\), raised AttributeError \(model\.py, line 14\)"),
    "nan": ("return LOGITS / 0 * 0", r"logits that are no numbers"),
    "integers": ("return LOGITS.argmax(dim=1)", r"returns torch\.int64, no logits"),
    "pair": ("return LOGITS, x", r"returns tuple, no logits"),
    "columns": ("y = LOGITS; return torch.cat([y, y[:, :1]], 1)", r"has 3 outputs, .* has 2 classes"),
    "rows": ("return LOGITS.view(-1, 1)", r"not one row of logits for each"),
    "trains itself": ("self.fc.train(); return LOGITS", r"stays in training mode .*: net\.fc"),
    "training": (
        "return LOGITS\n        def train(self, mode=True): return super().train(True)",
        r"training mode after eval",
    ),
    "in place": ("x.mul_(0.9); return LOGITS", r"changes the images it is given"),
    "batch": ("x = x - x.mean(dim=0); return LOGITS", r"depends on the other images of the batch"),
    "no gradient": ("return LOGITS.detach()", r"no gradient with respect"),
}
CASES = [{"code": code, "message": m} for code, m in BAD_CODE.values()]
CASES += [{"forward": forward, "message": m} for forward, m in BAD_FORWARD.values()]


@pytest.mark.parametrize("case", CASES, ids=[*BAD_CODE, *BAD_FORWARD])
def test_bad_code(bring, case):
    message = case["message"]
    paths, modules = list(sys.path), set(sys.modules)
    with pytest.raises(AmalgamError) as caught:
        bring(**{key: value for key, value in case.items() if key != "message"})
    assert re.search(message, caught.value.message)
    assert caught.value.remedy
    assert "\n" not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "no traceback of the code is shown"
    assert sys.path == paths, "what the code was given to find its modules is taken back"
    assert "model" not in set(sys.modules) - modules


BAD_SETTINGS = {
    "attribute": ({"object": "model:Nett"}, r"no class or function 'Nett'", "model:Net"),
    "module": ({"object": "modell:Net"}, r"no module 'modell'", "the folder has: model"),
    "not in the folder": ({"object": "ops.files:read_json"}, r"no module 'ops\.files'", "the folder has: model"),
    "argument": ({"arguments": {"depth": 3}}, r"arguments of model:Net do not fit: .*'depth'", "num_classes=2"),
    "outputs": (
        {"arguments": {"num_classes": 5}},
        r"fc\.bias is \(2,\) in weights\.safetensors and \(5,\)",
        "number of",
    ),
    "few classes": ({"classes": ["bar", "blob"]}, r"without disc and with blob", "order of its logits: bar, disc"),
    "more classes": ({"classes": ["disc", "bar", "blob"]}, r"not those of the dataset: with blob", "bar, disc"),
    "no weights": ({"weights": "other.safetensors"}, r"other\.safetensors are not in theirs", "dvc add data"),
    "no info": ({"info": "info.json"}, r"model-info info\.json is not in theirs", "RobustBench"),
    "no split": ({"split": "nowhere"}, r"has no images in nowhere", "manifest"),
}


@pytest.mark.parametrize("what", BAD_SETTINGS)
def test_bad_settings(bring, what):
    settings, message, remedy = BAD_SETTINGS[what]
    with pytest.raises(AmalgamError, match=message) as caught:
        bring(**settings)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("file", ["weights.pt", "weights.pth", "deep/weights.ckpt", "weights"])
def test_pickles_are_refused_with_the_way_to_convert_them(bring, elsewhere, tiny_state, file):
    folder, _ = elsewhere()
    (folder / file).parent.mkdir(exist_ok=True)
    torch.save(tiny_state, folder / file)
    with pytest.raises(AmalgamError, match="never unpickled") as caught:
        bring(weights=file)
    lines = caught.value.remedy.splitlines()
    assert "weights_only=True" in lines[2]
    program = "\n".join(line.strip() for line in lines[1:4])
    program = program.replace('"weights', f'"{(folder / file).parent}/weights')
    exec(program, {})  # the remedy is a program, and its file is what is asked for
    made = (folder / file).with_suffix(".safetensors")
    made.rename(folder / "converted.safetensors")
    assert bring(weights="converted.safetensors").figures["parameters"] == 8


def test_a_pickle_with_another_name_is_not_loaded(bring, elsewhere, tiny_state):
    folder, _ = elsewhere()
    torch.save(tiny_state, folder / "renamed.safetensors")
    with pytest.raises(AmalgamError, match=r"renamed\.safetensors is no safetensors file") as caught:
        bring(weights="renamed.safetensors")
    assert "weights_only=True" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fc.bias"), r"1 are missing in the file, such as fc\.bias$"),
        (lambda s: s.update(mu=torch.zeros(3)), r"1 are unknown to the module, such as mu$"),
        (
            lambda s: s.update({"head.fc.bias": s.pop("fc.bias")}),
            r"missing .* fc\.bias; 1 are unknown .* head\.fc\.bias",
        ),
    ],
)
def test_weights_that_do_not_fit(bring, tiny_state, change, message):
    state = dict(tiny_state)
    change(state)
    with pytest.raises(AmalgamError) as caught:
        bring(state=state)
    assert re.search(message, caught.value.message)
    assert "persistent=False" in caught.value.remedy


def test_a_folder_without_code(elsewhere, bring, shards, folders, recorder):
    folder, config = elsewhere()
    (folder / "model.py").unlink()
    out, cache = folders("none", "cache")
    with pytest.raises(AmalgamError, match="theirs holds no Python file"):
        bring_model(config, "theirs", folder, shards, out, cache, CPU, recorder)


def test_a_module_that_would_hide_another(bring):
    with pytest.raises(AmalgamError, match="torch in the model's folder hides a module") as caught:
        bring(files={"torch.py": ""})
    assert "another name" in caught.value.remedy


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"dataset": "x", "clean_acc": "good"})])
def test_a_broken_model_info(bring, text):
    with pytest.raises(AmalgamError, match=r"info\.json is no (JSON|model-info)"):
        bring(files={"info.json": text}, info="info.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folder": "store/x"}, "no folder below data/"),
        ({"folder": "data/../x"}, "no folder below data/"),
        ({"object": "model.Net"}, "object"),
        ({"object": "../model:Net"}, "object"),
        ({"weights": "../w.safetensors"}, "no file inside the folder"),
        ({"info": "/etc/passwd"}, "no file inside the folder"),
        ({"classes": ["a", "a"]}, "the class a is given twice"),
        ({"classes": ["a"]}, "at least 2 items"),
        ({"image_size": 0}, "greater than or equal to 1"),
        ({"weihgts": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    base = {"folder": "data/x", "object": "model:Net", "weights": "w.safetensors"}
    with pytest.raises(ValidationError, match=message):
        ExternalModel.model_validate(base | settings)
