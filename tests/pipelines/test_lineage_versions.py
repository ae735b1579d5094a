"""Stages, their sources and their hashes agree with DVC's."""

import ast
import json
import subprocess
import sys

import dagster as dg
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.definitions import build_definitions, project
from pipelines.dvc import render
from pipelines.lineage import code_version, digest_folder, sources_of, stages
from pipelines.params import read_tree, validate
from pipelines.project import ROOT


def brought() -> set[str | None]:
    """Return the folders in `data/` that the profile reads anyway."""
    params = project().params
    return {params.raw_images.dataset, params.autoencoder.start, params.diffusion.start}


def test_string_selections_parse():
    """Fails if the resolver slips back to the antlr runtime that hydra 1.3 pins."""
    assert dg.AssetSelection.from_string("group:raw or key:diffusion+").resolve(
        project().definitions.resolve_asset_graph()
    )


def test_folder_digest_is_dvcs(tmp_path):
    data = tmp_path / "data"
    (data / "deep" / "er").mkdir(parents=True)
    (data / "b.txt").write_text("b\r\n")
    (data / "a b.txt").write_bytes(bytes(range(256)))
    (data / "deep" / "ä.txt").write_text("")
    (data / "deep" / "er" / "Z").write_text("z")
    (data / "deep-er").write_text("sorts between")
    for command in (["init", "--no-scm", "-q"], ["add", "-q", "data"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    assert digest_folder(data) == yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=5), max_size=4))
def test_folder_digest_depends_on_names_and_bytes_only(tmp_path_factory, files):
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder, names in ((one, sorted(files)), (two, sorted(files, reverse=True))):
        for name in names:
            (folder / name).write_bytes(files[name])
    before = digest_folder(one)
    assert before == digest_folder(two)
    (two / "new").write_bytes(b"")
    assert before != digest_folder(two)


def test_sources_follow_imports(root):
    sources = sources_of("ops.train.loop")
    assert "ops/train/loop.py" in sources
    assert "ops/train/losses.py" in sources
    assert "ops/attack/pgd.py" in sources, "an op's code includes what it imports"
    assert not any(s.startswith("ops/generate/") for s in sources), "and nothing else"
    assert all((root / s).is_file() for s in sources)


def test_templates_belong_to_the_report():
    assert any(s.startswith("ops/report/templates/") for s in sources_of("ops.report.html"))


def test_code_version_changes_with_source_and_parameters(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    before = code_version(["a.py"], {"lr": 0.1}, tmp_path)
    assert before == code_version(["a.py"], {"lr": 0.1}, tmp_path)
    assert before != code_version(["a.py"], {"lr": 0.2}, tmp_path)
    (tmp_path / "a.py").write_text("x = 2\n")
    assert before != code_version(["a.py"], {"lr": 0.1}, tmp_path)


def test_dvc_yaml_is_current(root):
    assert (root / "dvc.yaml").read_text() == render(project().stages)


def test_every_stage_declares_its_code_parameters_and_parents():
    stages = project().stages
    text = yaml.safe_load(render(stages))["stages"]
    for stage in stages:
        entry = text[stage.name]
        assert entry["outs"] == [f"store/{stage.folder}"]
        assert set(entry["deps"]) >= {f"store/{p.folder}" for p in stage.parents} | set(stage.sources)
        assert stage.sources
        assert stage.parents or stage.raw


def test_recipes_are_versioned_one_by_one():
    graph = project().definitions.resolve_asset_graph()
    versions = {
        key.to_user_string(): graph.get(key).code_version
        for key in graph.get_all_asset_keys()
        if key.path[0] == "classifier"
    }
    assert len(versions) >= 2
    assert len(set(versions.values())) == len(versions)


def test_a_real_only_recipe_does_not_wait_for_the_generator():
    stage = next(s for s in project().stages if s.folder == "classifier/real/seed-0")
    assert {p.folder for p in stage.parents} == {"real_shards"}


def test_the_filter_depends_on_every_seed_of_its_scorer(root):
    stage = next(s for s in project().stages if s.folder == "filtered_synthetic")
    assert {p.folder for p in stage.parents} == {
        "real_shards", "synthetic_shards", "diffusion", "classifier/scorer/seed-0", "classifier/scorer/seed-1",
    }  # fmt: skip
    entry = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["filtered_synthetic"]
    assert entry["cmd"] == "python -m pipelines materialize filtered_synthetic"
    assert entry["params"] == ["filtered_synthetic"]
    assert {"ops/sample/filtering.py", "ops/sample/config.py", "ops/models/checkpoint.py"} <= set(entry["deps"])
    assert "ops/sample/plan.py" not in entry["deps"]
    for seed in (0, 1):
        mixed = next(s for s in project().stages if s.folder == f"classifier/mixed/seed-{seed}")
        assert {p.folder for p in mixed.parents} == {"real_shards", "filtered_synthetic"}


@pytest.fixture
def changed(root):
    """Return a function that gives the stages by folder, and the external assets, of a changed default profile."""

    def build(change):
        tree = read_tree(root / "profiles" / "default.yaml")
        change(tree)
        definitions = build_definitions(validate(tree, "params.yaml"), tree)
        graph = definitions.resolve_asset_graph()
        external = {k.to_user_string() for k in graph.get_all_asset_keys() if graph.get(k).is_external}
        return {s.folder: s for s in stages(definitions)}, external

    return build


def test_a_recipe_can_mix_the_images_as_they_were_made(changed):
    found, _ = changed(lambda tree: tree["classifier"]["recipes"]["mixed"]["mix"].update(source="synthetic_shards"))
    mixed = found["classifier/mixed/seed-0"]
    assert {p.folder for p in mixed.parents} == {"real_shards", "synthetic_shards"}
    assert mixed.raw == ()


def test_a_recipe_can_mix_a_folder_of_raw_shards(changed):
    def change(tree):
        tree["classifier"]["recipes"]["mixed"]["mix"]["source"] = "data/generated/edm"
        tree["ingredient"]["recipes"]["l2"]["mix"].update(real_fraction=0.5, source="data/generated/edm")

    found, external = changed(change)
    mixed = found["classifier/mixed/seed-0"]
    assert {p.folder for p in mixed.parents} == {"real_shards"}
    assert mixed.raw == found["ingredient/l2/seed-1"].raw == ("data/generated/edm",)
    assert external == brought() | {"data/generated/edm"}
    entry = yaml.safe_load(render(list(found.values())))["stages"]["classifier-mixed-seed-0"]
    assert "data/generated/edm" in entry["deps"]


def test_a_gated_plan_waits_for_what_the_generator_answers(changed):
    def change(tree):
        tree["sampling_plan"]["gate"] = {"space": "classifier"}
        tree["sampling_plan"]["strategy"] = {
            "kind": "target",
            "tables": [{"file": "data/census/tone.csv"}],
        }

    found, _ = changed(change)
    parents = {p.folder for p in found["sampling_plan"].parents}
    judges = {"classifier/scorer/seed-0", "classifier/scorer/seed-1"}
    assert parents == {"real_shards", "diffusion", "generator_samples", *judges}
    assert "real_shards" in {p.folder for p in found["synthetic_shards"].parents}
    assert "data/census" in found["sampling_plan"].raw


def test_a_recipe_waits_for_the_model_whose_mistakes_it_repeats(changed):
    def change(tree):
        scorer = tree["classifier"]["recipes"]["scorer"]
        tree["classifier"]["recipes"]["jtt"] = {**scorer, "sampling": {"method": "errors", "identifier": "scorer"}}

    found, _ = changed(change)
    parents = {p.folder for p in found["classifier/jtt/seed-1"].parents}
    assert parents == {"real_shards", "classifier/scorer/seed-1"}


def test_the_scorer_can_have_another_name(changed):
    def change(tree):
        tree["classifier"]["recipes"]["judge"] = tree["classifier"]["recipes"]["scorer"]
        tree["filtered_synthetic"]["scorer"] = "judge"

    found, _ = changed(change)
    names = {p.folder for p in found["filtered_synthetic"].parents}
    judges = {"classifier/judge/seed-0", "classifier/judge/seed-1"}
    assert names == {"real_shards", "synthetic_shards", "diffusion", *judges}
    judged = {p.folder for p in found["robustness"].parents}
    assert "classifier/scorer/seed-0" in judged, "then it is a recipe like any other"
    assert "classifier/judge/seed-0" not in judged


def test_published_corruptions_are_raw_data(changed):
    def change(tree):
        tree["corruptions"]["published"] = "data/cifar-10-c"

    found, external = changed(change)
    assert found["corruptions"].raw == ("data/cifar-10-c",)
    assert external == brought() | {"data/cifar-10-c"}
    plain = next(s for s in project().stages if s.folder == "corruptions")
    assert plain.raw == ()
    assert {p.folder for p in found["corruptions"].parents} == {p.folder for p in found["robustness"].parents}


def test_images_from_elsewhere_are_raw_data(changed):
    """A folder that two sets, or another stage, read is one external asset."""

    def change(tree):
        tree["corruptions"]["published"] = "data/cifar-10-c"
        folders = {"sketches": "data/sketches", "again": "data/sketches", "c": "data/cifar-10-c"}
        tree["shift"]["sets"] = folders

    found, external = changed(change)
    assert found["shift"].raw == ("data/cifar-10-c", "data/sketches")
    assert external == brought() | {"data/cifar-10-c", "data/sketches"}
    plain = next(s for s in project().stages if s.folder == "shift")
    assert plain.raw == ()
    assert {p.folder for p in found["shift"].parents} == {p.folder for p in found["robustness"].parents}
    entry = yaml.safe_load(render(list(found.values())))["stages"]["shift"]
    assert "data/sketches" in entry["deps"]


def test_models_from_elsewhere_are_measured_like_ours(changed):
    def change(tree):
        one = {"folder": "data/zoo", "object": "model:Net", "weights": "w.safetensors"}
        tree["external"]["models"] = {
            "small": one,
            "large": one | {"arguments": {"depth": 28}},
            "mine": one | {"folder": "data/edm"},
        }
        tree["classifier"]["recipes"]["mixed"]["mix"]["source"] = "data/edm"

    found, external = changed(change)
    assert external == brought() | {"data/zoo", "data/edm"}
    small = found["external/small"]
    assert (small.partition, small.params, small.raw) == (None, "external.models.small", ("data/zoo",))
    assert {p.folder for p in small.parents} == {"real_shards"}
    assert "ops/models/external/code.py" in small.sources
    for stage in ("robustness", "corruptions"):
        parents = {p.folder for p in found[stage].parents}
        assert {"external/small", "external/large", "external/mine", "classifier/real/seed-0"} <= parents
    study = {p.folder for p in found["training_study"].parents}
    assert not any(name.startswith("external/") for name in study), "they have no history"
    entry = yaml.safe_load(render(list(found.values())))["stages"]["external-small"]
    assert entry["cmd"] == "python -m pipelines materialize external/small"
    assert entry["params"] == ["external.models.small"]
    assert {"data/zoo", "store/real_shards"} <= set(entry["deps"])


def test_parents_of_partitioned_stages():
    stages = {s.folder: s for s in project().stages}
    assert "classifier/real/seed-0" in {p.folder for p in stages["soup/seed-0"].parents}
    assert "classifier/real/seed-1" not in {p.folder for p in stages["soup/seed-0"].parents}
    assert {"soup/seed-0", "soup/seed-1"} <= {p.folder for p in stages["robustness"].parents}


def test_all_dependencies_are_defined():
    graph = project().definitions.resolve_asset_graph()
    external = {key for key in graph.get_all_asset_keys() if graph.get(key).is_external}
    assert {key.to_user_string() for key in external} == brought()


def test_definitions_are_loadable():
    """Dagster finds every resource and dependency; without the resource it says so."""
    definitions = project().definitions
    dg.Definitions.validate_loadable(definitions)
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="steps"):
        dg.Definitions.validate_loadable(dg.Definitions(assets=definitions.assets))


@pytest.mark.parametrize("value", [{"b": 1, "a": [1, 2]}, {"a": [1, 2], "b": 1}])
def test_code_version_ignores_the_order_of_keys(tmp_path, value):
    assert code_version([], value, tmp_path) == code_version([], json.loads('{"a": [1, 2], "b": 1}'), tmp_path)


def test_packages_define_nothing():
    """What a package's own file defined would be no source of any stage: `sources_of` reads modules only."""
    for path in sorted(ROOT.glob("ops/**/__init__.py")):
        assert [type(node) for node in ast.parse(path.read_text(encoding="utf-8")).body] == [ast.Expr], path
