"""With a cascade the base learns from smaller images, and what is sampled waits for the upsampler."""

import dagster as dg
import pytest
import yaml

from pipelines.definitions import lineage_assets
from pipelines.params import resolve, validate


@pytest.fixture(scope="module")
def parents():
    tree = yaml.safe_load(resolve("smoke"))
    tree["upsampler"] = {"factor": 2}
    graph = dg.Definitions(assets=lineage_assets(validate(tree, "test"))).resolve_asset_graph()
    return {
        key.to_user_string(): {p.to_user_string() for p in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }


def test_the_base_learns_from_small_images(parents):
    assert parents["small_shards"] == parents["upsampler"] == {"real_shards"}
    assert parents["autoencoder"] == {"small_shards", "classifier/scorer"}
    assert parents["diffusion"] == {"small_shards", "autoencoder"}


def test_what_is_sampled_waits_for_the_upsampler(parents):
    assert parents["synthetic_shards"] == {"sampling_plan", "diffusion", "upsampler"}
    assert parents["generator_samples"] == {"evaluation_prompts", "diffusion", "upsampler"}


def test_without_a_cascade_there_is_no_trace_of_it():
    graph = dg.Definitions(
        assets=lineage_assets(validate(yaml.safe_load(resolve("smoke")), "test"))
    ).resolve_asset_graph()
    assert not {"small_shards", "upsampler"} & {key.to_user_string() for key in graph.get_all_asset_keys()}
