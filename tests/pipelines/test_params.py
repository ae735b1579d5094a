"""One typed tree; a typing error names its key."""

import copy

import pytest
import yaml

from ops.errors import AmalgamError
from pipelines.params import load_params, profiles, read_tree, resolve, validate


@pytest.fixture
def tree(root):
    return copy.deepcopy(read_tree(root / "profiles" / "default.yaml"))


@pytest.mark.parametrize("profile", profiles())
def test_every_shipped_profile_is_valid(profile):
    params = validate(yaml.safe_load(resolve(profile)), profile)
    assert params.profile == profile


def test_params_yaml_is_the_default_profile(root):
    assert (root / "params.yaml").read_text() == resolve("default")
    assert load_params().profile == "default"


def test_profiles_keep_the_comments_of_the_default():
    assert resolve("smoke").count("#") >= resolve("default").count("#") - 5


def test_a_typing_error_names_the_key(tree):
    tree["diffusion"]["stepz"] = 3
    with pytest.raises(AmalgamError, match=r"diffusion\.stepz"):
        validate(tree, "params.yaml")


def test_a_wrong_value_names_the_key(tree):
    tree["classifier"]["recipes"]["real"]["schedule"]["lr"] = -1
    with pytest.raises(AmalgamError, match=r"classifier\.recipes\.real\.schedule\.lr"):
        validate(tree, "params.yaml")


def test_an_unknown_recipe_is_named_with_the_known_ones(tree):
    tree["soup"]["ingredients"] = ["classifier/real", "classifier/reel"]
    with pytest.raises(AmalgamError, match=r"classifier/reel") as error:
        validate(tree, "params.yaml")
    assert "classifier/real" in error.value.remedy


@pytest.mark.parametrize(("section", "key"), [("corruptions", "baseline"), ("comparisons", "reference")])
@pytest.mark.parametrize("model", ["classifier/scorer", "classifier/reel", "real"])
def test_a_model_that_is_not_measured_is_named_with_the_choices(tree, section, key, model):
    tree[section][key] = model
    with pytest.raises(AmalgamError, match=rf"{section}\.{key} is '{model}'") as error:
        validate(tree, "params.yaml")
    assert "classifier/real" in error.value.remedy
    tree[section][key] = "soup"
    assert getattr(getattr(validate(tree, "params.yaml"), section), key) == "soup"


def test_a_wrong_corruption_names_the_key(tree):
    tree["corruptions"]["corruptions"] = ["fog", "fogg"]
    with pytest.raises(AmalgamError, match=r"corruptions\.corruptions: .*'fogg'; choose from"):
        validate(tree, "params.yaml")


def test_the_dataset_is_not_from_elsewhere(tree):
    tree["shift"]["sets"] = {"mine": tree["raw_images"]["dataset"]}
    with pytest.raises(AmalgamError, match=r"shift\.sets\.mine is data/emoji-people, the dataset itself"):
        validate(tree, "params.yaml")


def test_a_wrong_shift_names_the_key(tree):
    tree["shift"]["few_shot"]["shots"] = [0]
    with pytest.raises(AmalgamError, match=r"shift\.few_shot\.shots\.0: .*greater than 0"):
        validate(tree, "params.yaml")


def test_initialisation_from_an_unknown_recipe(tree):
    name = next(iter(tree["ingredient"]["recipes"]))
    tree["ingredient"]["recipes"][name]["initialisation"] = "nobody"
    with pytest.raises(AmalgamError, match="nobody"):
        validate(tree, "params.yaml")


def test_recipes_that_start_from_each_other(tree):
    recipes = tree["classifier"]["recipes"]
    recipes["real"]["initialisation"], recipes["mixed"]["initialisation"] = "mixed", "real"
    with pytest.raises(AmalgamError, match="real <- mixed <- real") as error:
        validate(tree, "params.yaml")
    assert "scratch" in error.value.remedy


def test_an_unknown_identifier_is_named(tree):
    tree["classifier"]["recipes"]["scorer"]["sampling"] = {"method": "errors", "identifier": "nobody"}
    with pytest.raises(AmalgamError, match=r"scorer\.sampling\.identifier is 'nobody'"):
        validate(tree, "params.yaml")


@pytest.mark.parametrize("source", ["filtered_sinthetic", "real_shards", "data", "data/", "data/../store", "/data/x"])
def test_an_unknown_source_is_named_with_the_choices(tree, source):
    tree["classifier"]["recipes"]["mixed"]["mix"]["source"] = source
    with pytest.raises(AmalgamError, match=r"classifier\.recipes\.mixed\.mix\.source") as error:
        validate(tree, "params.yaml")
    assert repr(source) in error.value.message
    for choice in ("filtered_synthetic", "synthetic_shards", "data/"):
        assert choice in error.value.remedy


@pytest.mark.parametrize("source", ["filtered_synthetic", "synthetic_shards", "data/edm-1m", "data/generated/edm"])
def test_known_sources(tree, source):
    tree["classifier"]["recipes"]["mixed"]["mix"]["source"] = source
    assert validate(tree, "params.yaml").classifier.recipes["mixed"].mix.source == source


def test_the_source_of_a_recipe_that_mixes_nothing_is_idle(tree):
    tree["classifier"]["recipes"]["real"]["mix"]["source"] = "anything"
    real = validate(tree, "params.yaml").classifier.recipes["real"]
    assert (real.mix.source, real.uses_synthetic) == ("anything", False)


def test_a_scorer_that_is_no_recipe(tree):
    tree["filtered_synthetic"]["scorer"] = "skorer"
    with pytest.raises(AmalgamError, match=r"filtered_synthetic\.scorer is 'skorer'") as error:
        validate(tree, "params.yaml")
    assert error.value.remedy == "use one of: scorer"


def test_a_scorer_that_is_trained_with_an_attack(tree):
    tree["filtered_synthetic"]["scorer"] = "real"
    with pytest.raises(AmalgamError, match="whose loss is trades and not clean"):
        validate(tree, "params.yaml")
    del tree["classifier"]["recipes"]["scorer"]
    with pytest.raises(AmalgamError, match="and not clean") as error:
        validate(tree, "params.yaml")
    assert "loss: clean" in error.value.remedy


@pytest.mark.parametrize("source", ["filtered_synthetic", "synthetic_shards"])
def test_a_scorer_must_not_learn_from_what_it_filters(tree, source):
    tree["classifier"]["recipes"]["scorer"]["mix"] = {"real_fraction": 0.5, "source": source}
    with pytest.raises(AmalgamError, match=f"'scorer', which learns from {source}") as error:
        validate(tree, "params.yaml")
    assert "classifier.recipes.scorer.mix.real_fraction" in error.value.remedy


def test_a_scorer_must_not_start_from_a_model_that_learnt_from_what_it_filters(tree):
    tree["classifier"]["recipes"]["scorer"]["initialisation"] = "mixed"
    with pytest.raises(AmalgamError, match="needs 'mixed', and that learns from filtered_synthetic"):
        validate(tree, "params.yaml")


def test_a_plan_must_not_ask_a_model_that_learnt_from_what_it_plans(tree):
    tree["sampling_plan"]["strategy"] = {"kind": "error_driven", "scorer": "mixed"}
    with pytest.raises(AmalgamError, match="'mixed', which learns from filtered_synthetic: what plans"):
        validate(tree, "params.yaml")
    tree["sampling_plan"]["strategy"]["scorer"] = "nobody"
    with pytest.raises(AmalgamError, match="sampling_plan asks the classifier 'nobody'"):
        validate(tree, "params.yaml")


def test_a_filter_setting_without_effect_names_its_key(tree):
    tree["filtered_synthetic"]["rule"] = "balance_only"
    with pytest.raises(AmalgamError, match=r"filtered_synthetic.*keep_share"):
        validate(tree, "params.yaml")


def external(**changes):
    return {"folder": "data/carmon", "object": "model:WideResNet", "weights": "weights.safetensors"} | changes


def test_a_model_from_elsewhere(tree):
    assert validate(tree, "params.yaml").external.models == {}
    tree["external"]["models"] = {"carmon_28": external(arguments={"depth": 28}), "other": external(classes=["a", "b"])}
    tree["corruptions"]["baseline"] = "external/carmon_28"
    found = validate(tree, "params.yaml")
    assert found.external.models["carmon_28"].arguments == {"depth": 28}
    assert found.corruptions.baseline == "external/carmon_28"


@pytest.mark.parametrize("file", ["model.pt", "model.pth", "model.ckpt", "model.bin"])
def test_weights_that_would_be_unpickled_are_refused_before_anything_runs(tree, file):
    tree["external"]["models"] = {"carmon": external(weights=file)}
    with pytest.raises(AmalgamError, match=rf"external\.models\.carmon\.weights is '{file}'") as error:
        validate(tree, "params.yaml")
    assert "weights_only=True" in error.value.remedy
    assert "model.safetensors" in error.value.remedy


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"a-b": external()}, r"external\.models\.a-b"),
        ({"a.b": external()}, r"external\.models\.a\.b"),
        ({"carmon": external(folder="elsewhere")}, r"external\.models\.carmon\.folder: .*no folder below data/"),
        ({"carmon": {"folder": "data/x"}}, r"external\.models\.carmon\.weights: Field required"),
    ],
)
def test_mistakes_in_a_model_from_elsewhere_name_the_key(tree, models, message):
    tree["external"]["models"] = models
    with pytest.raises(AmalgamError, match=message):
        validate(tree, "params.yaml")


def test_a_recipe_cannot_be_of_a_family_from_elsewhere(tree):
    tree["classifier"]["recipes"]["real"]["architecture"] = {"family": "external"}
    with pytest.raises(AmalgamError, match=r"classifier\.recipes\.real\.architecture\.family"):
        validate(tree, "params.yaml")


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(AmalgamError, match="missing"):
        read_tree(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1\n")
    with pytest.raises(AmalgamError, match="not valid YAML"):
        read_tree(tmp_path / "params.yaml")


def test_unknown_profile():
    with pytest.raises(AmalgamError, match="no profile"):
        resolve("nonsense")


def test_a_profile_merges_mappings_replaces_values_and_leaves_no_alias():
    """`smoke` gives both recipes the same mapping, by an anchor; each must be a text of its own in params.yaml."""
    text = resolve("smoke")
    assert "*" not in text
    tree, default = yaml.safe_load(text), yaml.safe_load(resolve("default"))
    real = tree["classifier"]["recipes"]["real"]
    assert real["architecture"] == {**default["classifier"]["recipes"]["real"]["architecture"], "widths": [8, 16, 32]}
    assert real["threat"] == default["classifier"]["recipes"]["real"]["threat"]
