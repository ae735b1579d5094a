"""The worst examples: those of a brute-force search, as they are in their files, and what models say of them there."""

import io
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from ops.attack.run import run_attack
from ops.attack.threat import Threat
from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate import robustness, worst_examples
from ops.evaluate.outcomes import attack_images
from ops.evaluate.predicting import choose
from ops.evaluate.robustness_pictures import draw_worst_examples
from ops.evaluate.worst_examples import worst_of
from ops.files import read_json, write_json
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, save_classifier
from ops.models.config import Architecture
from ops.runtime import derive_seed
from tests.ops.evaluate.test_evaluation import ATTACKS, CPU, config, measure

LINF = Threat(norm="linf", eps=4 / 255)
FIRST = ("classifier/mixed/seed-0", "classifier/real/seed-0")


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """Return three model folders, two of one name: small networks that have learned a little, and fall to small changes."""
    home, made = tmp_path_factory.mktemp("trained"), {}
    images = open_images(shards, "train", home / "cache")
    x, y = images.batch(np.arange(len(images))), images.targets(np.arange(len(images)))
    architecture = Architecture(widths=[8, 16], blocks=[1, 1])
    for name, start, steps in ((FIRST[0], 0, 20), (FIRST[1], 1, 40), ("classifier/real/seed-1", 0, 22)):
        model = build_classifier(architecture, 2, [0.5] * 3, [0.25] * 3, start).train()
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(steps):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
        card = ModelCard(
            name=name.rpartition("/")[0], architecture=architecture, classes=["bar", "disc"], image_size=32,
            mean=[0.5] * 3, std=[0.25] * 3, seed=int(name[-1]), ancestor="",
        )  # fmt: skip
        made[name] = home / name
        save_classifier(made[name], model.eval(), card)
    return made


def alone(model, images, threat, settings):
    """Return, for each image that falls, what its attack makes of it alone: id, attack, class, confidence, image."""
    found = []
    for place in range(len(images)):
        x, y = images.batch([place]), images.targets([place])
        seed = torch.tensor([derive_seed(settings.seed, "attack", images.table["id"][place])])
        with torch.no_grad():
            if model(x).argmax(1) != y:
                continue
        for attack in settings.attacks_in(threat.norm):
            adversarial = run_attack(model, attack, x, y, threat, seed)
            with torch.no_grad():
                said = model(adversarial).softmax(dim=1)[0]
            if said.argmax() != y[0]:
                wrong = images.classes[int(said.argmax())]
                found.append((images.table["id"][place], attack.name, wrong, float(said.max()), adversarial[0]))
                break
    return found


def test_predictions_say_what_the_model_sees_after_the_attack_that_turned_an_image(trained, shards, folders):
    (cache,) = folders("cache")
    images, settings = choose(open_images(shards, "test", cache), "test", 40, 0), config(attacks=ATTACKS)
    turned = 0
    for name in FIRST:
        model, _ = load_classifier(trained[name], CPU)
        table = attack_images(model, name, images, "test", LINF, settings, CPU).set_index("id")
        fallen = table[table["clean"] & ~table["robust"]]
        expected = alone(model, images, LINF, settings)
        assert set(fallen.index) == {identity for identity, *_ in expected}
        for identity, attack, predicted, confidence, _ in expected:
            row = fallen.loc[identity]
            assert row["adversarial_predicted"] == predicted != row["label"]
            assert row["adversarial_confidence"] == pytest.approx(confidence, abs=1e-4)
            assert next(a["name"] for a in ATTACKS if not row[a["name"]]) == attack
        others = table.drop(fallen.index)
        assert (others["adversarial_predicted"] == others["predicted"]).all()
        assert others["adversarial_confidence"].isna().all()
        turned += len(expected)
    assert turned > 5


def test_the_worst_are_stored_drawn_and_classified_from_the_file(trained, shards, folders, recorder):
    out = measure(trained, shards, folders, recorder, examples=3)
    settings = config(attacks=[{"name": "pgd", "steps": 5}, {"name": "apgd-ce", "steps": 6}], examples=3)
    images = choose(open_images(shards, "test", folders("cache")[0]), "test", 40, 0)
    table = pq.read_table(out / "worst_examples.parquet").to_pandas()
    slugs = {"linf 4/255": "linf-4-255", "l2 76.5/255": "l2-76.5-255"}
    made = set()
    for name in FIRST:
        model, _ = load_classifier(trained[name], CPU)
        for threat in settings.threats:
            worst = sorted(alone(model, images, threat, settings), key=lambda each: (-each[3], each[0]))[:3]
            mine = table[(table["model"] == name.rpartition("/")[0]) & (table["threat"] == str(threat))]
            assert mine["id"].tolist() == [identity for identity, *_ in worst]
            if not worst:
                continue
            _, attacks, classes, confidences, arrays = zip(*worst, strict=True)
            assert mine["attack"].tolist() == list(attacks)
            assert mine["predicted"].tolist() == mine["predicted_stored"].tolist() == list(classes)
            for column in ("confidence", "confidence_stored"):
                assert mine[column].to_numpy() == pytest.approx(np.array(confidences), abs=1e-4)
            title = f"{name.replace('/', '-')}-{slugs[str(threat)]}"
            made.add(title)
            stored = load_file(out / "adversarial" / f"{title}.safetensors")
            places = pd.Index(images.table["id"]).get_indexer(mine["id"])
            assert torch.equal(stored["images"], images.batch(places))
            torch.testing.assert_close(stored["adversarials"], torch.stack(arrays), atol=1e-4, rtol=0)
            with torch.no_grad():
                seen = model(torch.stack([through_png(each) for each in stored["adversarials"]])).argmax(dim=1)
            assert mine["predicted_8bit"].tolist() == [images.classes[k] for k in seen]
    assert len(made) >= 2, "otherwise this test says nothing"
    assert set(table["seed"]) == {0}
    names = {path.stem for path in (out / "pictures").glob("*.png")}
    assert names == {"accuracy", "reliability", "curve", "compute"} | {f"worst-{title}" for title in made}
    assert {path.stem for path in (out / "adversarial").iterdir()} == made


def through_png(image):
    stream = io.BytesIO()
    pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1).float() / 255


def test_ties_go_by_id_and_the_attack_is_the_first_that_turned():
    settings = config(examples=4)
    common = {"model": "m", "seed": 0, "split": "test", "threat": "linf 4/255", "clean": True, "label": "a"}
    rows = [  # id, pgd, apgd-ce, confidence; the last two stand, or are of another model
        ("d", True, False, 0.9),
        ("b", False, False, 0.9),
        ("a", False, False, 0.7),
        ("c", True, False, 0.95),
        ("e", False, False, 0.6),
        ("f", True, True, np.nan),
        ("g", False, False, 0.99),
    ]
    table = pd.DataFrame(rows, columns=["id", "pgd", "apgd-ce", "adversarial_confidence"]).assign(**common)
    table = table.assign(robust=table["apgd-ce"], adversarial_predicted="b", predicted="a")
    table.loc[6, "seed"] = 1
    found = worst_of(table, "m/seed-0", LINF, settings)
    assert found["id"].tolist() == ["c", "b", "d", "a"]
    assert found["attack"].tolist() == ["apgd-ce", "pgd", "apgd-ce", "pgd"]
    assert set(found["predicted"]) == {"b"}


def test_a_file_with_other_images_ends_the_evaluation(trained, shards, folders, recorder, monkeypatch):
    def damaged(path):
        stored = load_file(path)
        return stored | {"adversarials": stored["images"]}

    monkeypatch.setattr(worst_examples, "load_file", damaged)
    with pytest.raises(AmalgamError, match="otherwise when they are read from their file"):
        measure(trained, shards, folders, recorder)


class Wrapped(nn.Module):
    """Applies a function to images before the model sees them."""

    def __init__(self, model, before):
        super().__init__()
        self.model, self.before = model, before

    def forward(self, x):
        return self.model(self.before(x))


def wrap(monkeypatch, before):
    def load(folder, device):
        model, card = load_classifier(folder, device)
        return Wrapped(model, before).eval(), card

    for module in (robustness, worst_examples):
        monkeypatch.setattr(module, "load_classifier", load)


def test_what_the_first_attack_does_not_turn_is_shown_too(trained, shards, folders, recorder, monkeypatch):
    """Behind rounded pixels there is no gradient: only the black-box attack turns images."""
    wrap(monkeypatch, lambda x: (x * 12).round() / 12)
    attacks = [{"name": "apgd-ce", "steps": 1}, {"name": "square", "steps": 150}]
    one = {name: trained[name] for name in FIRST}
    threats = [{"norm": "linf", "eps": 16 / 255}]
    out = measure(one, shards, folders, recorder, attacks=attacks, threats=threats)
    table = pq.read_table(out / "worst_examples.parquet").to_pandas()
    assert "square" in set(table["attack"])
    assert len(list((out / "pictures").glob("worst-*.png"))) == table["model"].nunique() >= 1


@pytest.mark.parametrize("kind", ["torch", "own"])
def test_models_that_draw_are_no_defect(trained, shards, folders, recorder, monkeypatch, kind):
    """With torch's generators the noise of every look is the same; who draws from elsewhere answers as it likes."""
    own = torch.Generator().manual_seed(0)
    generator = own if kind == "own" else None
    wrap(monkeypatch, lambda x: x + 0.1 * torch.randn(x.shape, generator=generator))
    attacks = [{"name": "apgd-ce", "steps": 3, "eot": 2}]
    one = {name: trained[name] for name in FIRST}
    out = measure(one, shards, folders, recorder, attacks=attacks, images=20, examples=24)
    assert len(pq.read_table(out / "worst_examples.parquet"))


@pytest.mark.parametrize("changes", [{"examples": 0}, {"threats": [{"norm": "linf", "eps": 1e-9}]}])
def test_without_examples_there_is_an_empty_table_and_no_picture(trained, shards, folders, recorder, changes):
    out = measure(trained, shards, folders, recorder, **changes)
    table = pq.read_table(out / "worst_examples.parquet")
    assert len(table) == 0
    assert table.schema.names == worst_examples.SCHEMA.names
    assert not (out / "adversarial").exists()
    assert {path.stem for path in (out / "pictures").glob("*.png")} == {"accuracy", "reliability", "curve", "compute"}


def test_a_picture_shows_image_change_and_adversarial(tmp_path):
    """A grey image of which one half is made a little redder: the change is drawn fully red beside plain grey."""
    image = torch.full((1, 3, 8, 8), 0.2)
    adversarial = image.clone()
    adversarial[:, 0, :, 4:] += 0.04
    row = {"label": "bar", "predicted_stored": "disc", "confidence_stored": 0.9, "attack": "pgd"}
    draw_worst_examples(pd.DataFrame([row]), image, adversarial, "title", tmp_path / "one.png")
    colours = {tuple(c) for c in np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).reshape(-1, 3).tolist()}
    assert {(51, 51, 51), (128, 128, 128), (255, 128, 128), (61, 51, 51)} <= colours


def test_a_dataset_with_a_single_class_is_refused(trained, shards, folders, recorder, tmp_path):
    """No attack can fail there: robust accuracy would be 1."""
    single = tmp_path / "single"
    shutil.copytree(shards, single)
    write_json(single / "dataset.json", read_json(shards / "dataset.json") | {"classes": ["bar"]})
    with pytest.raises(AmalgamError, match="a single class"):
        measure(trained, single, folders, recorder)
