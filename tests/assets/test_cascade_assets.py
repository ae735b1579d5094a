"""With a cascade the base learns from smaller images, and what is sampled waits for the upsampler."""

import pytest
import yaml

from pipelines.definitions import build_definitions
from pipelines.params import resolve, validate


def graph(upsampler):
    tree = {**yaml.safe_load(resolve("smoke")), "upsampler": upsampler}
    return build_definitions(validate(tree, "test"), tree).resolve_asset_graph()


@pytest.fixture(scope="module")
def parents():
    found = graph({"factor": 2})
    return {
        key.to_user_string(): {parent.to_user_string() for parent in found.get(key).parent_keys}
        for key in found.get_all_asset_keys()
    }


def test_the_base_learns_from_small_images(parents):
    assert parents["small_shards"] == parents["upsampler"] == {"real_shards"}
    assert parents["autoencoder"] == {"small_shards", "classifier/scorer"}
    assert parents["diffusion"] == {"small_shards", "autoencoder"}


def test_what_is_sampled_waits_for_the_upsampler(parents):
    assert parents["synthetic_shards"] == {"sampling_plan", "diffusion", "upsampler"}
    assert parents["generator_samples"] == {"evaluation_prompts", "diffusion", "upsampler"}


def test_without_a_cascade_there_is_no_trace_of_it():
    names = {key.to_user_string() for key in graph(None).get_all_asset_keys()}
    assert not {"small_shards", "upsampler"} & names
