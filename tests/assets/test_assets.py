"""What exists: every asset of the design, thin, described, and stamped alike."""

import ast

import dagster as dg
import pytest

from pipelines.definitions import project

GROUPS = {
    "raw": {
        *("raw_images", "manifest", "data/emoji-people"),
        *(f"data/generators/emoji-people/{name}" for name in ("autoencoder", "diffusion")),
    },
    "curation": {"curated_manifest", "real_shards"},
    "generation": {
        *("autoencoder", "diffusion", "evaluation_prompts", "baseline_samples", "generator_samples"),
        *("generator_report", "responsibility", "preference", "generator_card"),
    },
    "synthetic": {"sampling_plan", "synthetic_shards", "filtered_synthetic", "synthetic_report"},
    "classifiers": {"classifier/real", "classifier/mixed", "classifier/scorer"},
    "soups": {"ingredient/l2", "soup"},
    "evaluation": {"robustness", "corruptions", "shift", "fairness", "comparisons", "model_card"},
    "reports": {"claims", "training_study", "report"},
}


@pytest.fixture(scope="module")
def graph():
    return project().definitions.resolve_asset_graph()


def test_every_group_has_its_assets(graph):
    found: dict[str, set[str]] = {}
    for key in graph.get_all_asset_keys():
        found.setdefault(graph.get(key).group_name, set()).add("/".join(key.path))
    assert found == GROUPS


def test_every_asset_is_described_and_stamped(graph):
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description, key
        assert node.code_version, key
        assert node.metadata["amalgam/op"].startswith("ops."), key
        assert node.automation_condition is not None, key
        assert node.kinds, key


def test_a_recipe_waits_for_what_it_mixes(graph):
    parents = {name: graph.get(dg.AssetKey(["classifier", name])).parent_keys for name in ("real", "mixed", "scorer")}
    real = dg.AssetKey("real_shards")
    assert parents["real"] == parents["scorer"] == {real}, "and not for the generator"
    assert parents["mixed"] == {real, dg.AssetKey("filtered_synthetic")}
    assert dg.AssetKey(["classifier", "real"]) in graph.get(dg.AssetKey(["ingredient", "l2"])).parent_keys


def test_the_scorer_judges_and_is_not_judged(graph):
    scorer = dg.AssetKey(["classifier", "scorer"])
    children = {key.to_user_string() for key in graph.get(scorer).child_keys}
    uses = {
        "autoencoder",
        "generator_report",
        "preference",
        "responsibility",
    }  # its eyes, of which none is a test of it
    assert children == {"filtered_synthetic", "synthetic_report", "report", *uses}
    filtered = graph.get(dg.AssetKey("filtered_synthetic"))
    assert filtered.parent_keys == {scorer, *map(dg.AssetKey, ("real_shards", "synthetic_shards", "diffusion"))}
    assert not filtered.is_partitioned
    assert graph.get(scorer).is_partitioned


def test_the_study_compares_what_is_trained(graph):
    study = {key.to_user_string() for key in graph.get(dg.AssetKey("training_study")).parent_keys}
    assert study == {"classifier/real", "classifier/mixed", "ingredient/l2"}
    assert dg.AssetKey("training_study") in graph.get(dg.AssetKey("report")).parent_keys


def test_bad_manifests_block_what_comes_after(graph):
    checks = {key.name: key for key in graph.asset_check_keys}
    blocking = [name for name, key in checks.items() if graph.get(key).blocking]
    assert set(checks) == {"manifest_contract", "manifest_quality", "no_masked_gradients", "memorisation"}
    assert blocking == ["manifest_contract"]


def test_assets_are_thin(root):
    """An asset resolves paths, calls one op, returns; a loop over batches would be on the wrong floor."""
    for path in sorted((root / "assets").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                decorated = any("asset" in ast.dump(d) for d in node.decorator_list)
                if decorated:
                    assert node.body[-1].end_lineno - node.lineno <= 25, f"{path.name}: {node.name}"
                    loops = [n for n in ast.walk(node) if isinstance(n, ast.For | ast.While)]
                    assert not loops, f"{path.name}: {node.name}"


def test_modules_are_one_idea(root):
    """Under 300 lines, tests apart."""
    for floor in ("ops", "assets", "pipelines", "benchmarks"):
        for path in (root / floor).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
