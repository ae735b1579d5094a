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


def test_initialisation_from_an_unknown_recipe(tree):
    name = next(iter(tree["ingredient"]["recipes"]))
    tree["ingredient"]["recipes"][name]["initialisation"] = "nobody"
    with pytest.raises(AmalgamError, match="nobody"):
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
