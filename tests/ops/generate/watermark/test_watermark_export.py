"""Exports: marked, described in every record, signed, the same after a kill, and not to be trained on."""

import hashlib
import json
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops.data.loading import open_images
from ops.data.manifest import read_manifest
from ops.data.marked import refuse_marked
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.watermark.config import WatermarkConfig
from ops.generate.watermark.detection import detect, detect_pooled, threshold
from ops.generate.watermark.export import export_marked
from ops.generate.watermark.keys import key_id, read_key
from ops.generate.watermark.marking import psnr
from ops.generate.watermark.signature import public_key, sign_folder, verify_folder
from ops.progress import Silent

SECRET = b"a secret of 27 bytes, no less"


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "mark.key"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def source(shard_maker, tmp_path):
    """Return synthetic shards in two files."""
    return shard_maker(tmp_path / "made", {"test": 12, "train": 40}, 3, "synthetic")


@pytest.fixture
def exported(source, key_file, tmp_path):
    export_marked(source, key_file, tmp_path / "exported", Silent())
    return tmp_path / "exported"


def test_exports_are_shard_folders_of_marked_images(source, exported, tmp_path):
    before, after = (open_images(f, ["test", "train"], tmp_path) for f in (source, exported))
    assert psnr(np.array(before.images), np.array(after.images)).min() >= 40
    images = np.array(after.images)
    assert (detect(images, SECRET) >= threshold(WatermarkConfig())).mean() > 0.9
    assert detect_pooled(images, SECRET) > 8
    same = [c for c in before.table.columns if c not in ("provenance", "sha256", "phash")]
    assert before.table[same].equals(after.table[same])
    assert after.labels.tolist() == before.labels.tolist()


def test_every_record_says_where_the_image_is_from(source, exported):
    original, table = read_manifest(source).set_index("id"), read_manifest(exported)
    for shard, rows in table.groupby("shard"):
        with tarfile.open(exported / shard) as tar:
            inside = {m.name: tar.extractfile(m).read() for m in tar}
        assert len(inside) == 2 * len(rows)
        for row in rows.itertuples():
            record = json.loads(inside[f"{row.key}.json"])
            mark = {"key": key_id(SECRET), "unmarked sha256": original.loc[row.id, "sha256"]}
            assert record == {
                "id": row.id, "label": row.label, "source": "synthetic", "provenance": {"watermark": mark},
            }  # fmt: skip
            assert json.loads(row.provenance) == record["provenance"]
            assert hashlib.sha256(inside[f"{row.key}.png"]).hexdigest() == row.sha256


def test_the_key_is_nowhere(exported):
    for name, data in files(exported).items():
        for secret in (SECRET, SECRET.hex().encode(), hashlib.sha256(SECRET).hexdigest().encode()):
            assert secret not in data, name


def test_marked_folders_are_not_for_training(source, exported):
    refuse_marked(read_json(source / "dataset.json"))
    with pytest.raises(AmalgamError, match="carry a watermark"):
        refuse_marked(read_json(exported / "dataset.json"))


class Killed(Silent):
    """Stops after the first shard."""

    def progress(self, done, total, unit="it", **figures):
        raise KeyboardInterrupt


def test_a_killed_export_goes_on_and_gives_the_same_bytes(source, exported, key_file, tmp_path):
    out = tmp_path / "marked"
    with pytest.raises(KeyboardInterrupt):
        export_marked(source, key_file, out, Killed())
    assert not out.exists()
    (first,) = (tmp_path / ".marked.building").rglob("*.tar")
    stamp = first.stat().st_mtime_ns
    (first.parent / ".half.tar.1.tmp").write_bytes(b"half")
    export_marked(source, key_file, out, Silent())
    assert (out / "test" / first.name).stat().st_mtime_ns == stamp, "what was finished is kept"
    assert files(out) == files(exported)
    assert not (tmp_path / ".marked.building").exists()


def test_what_was_left_by_another_key_is_not_kept(source, exported, key_file, tmp_path):
    other = tmp_path / "other.key"
    other.write_bytes(SECRET[::-1])
    out = tmp_path / "marked"
    with pytest.raises(KeyboardInterrupt):
        export_marked(source, other, out, Killed())
    export_marked(source, key_file, out, Silent())
    assert files(out) == files(exported)


def test_signatures_hold_and_break(exported, key_file, tmp_path):
    mine = public_key(SECRET)
    assert verify_folder(exported) == verify_folder(exported, mine) == mine
    listed = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=exported, capture_output=True, check=False
    )
    assert listed.returncode == 0

    def broken(change, match, trusted=None):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(exported, folder)
        change(folder)
        with pytest.raises(AmalgamError, match=match):
            verify_folder(folder, trusted)

    broken(lambda f: (f / "dataset.json").write_text("{}"), "dataset.json is changed")
    broken(lambda f: (f / "train" / "train-000000.tar").unlink(), "train-000000.tar is missing")
    broken(lambda f: (f / "extra").touch(), "extra is not in the signed list")
    broken(lambda f: (f / "SHA256SUMS").write_text("00  dataset.json\n"), "does not fit its list")
    broken(lambda f: (f / "signature.json").unlink(), "not signed")
    broken(lambda f: (f / "signature.json").write_text("[]"), "does not fit")
    broken(lambda f: sign_folder(f, SECRET[::-1]), "another key", mine)

    def forged(folder):
        """Sign changed files with a new key, but claim the old public key."""
        (folder / "dataset.json").write_text("{}")
        sign_folder(folder, SECRET[::-1])
        record = read_json(folder / "signature.json")
        signature = Ed25519PrivateKey.generate().sign((folder / "SHA256SUMS").read_bytes()).hex()
        write_json(folder / "signature.json", {**record, "public_key": mine, "signature": signature})

    broken(forged, "does not fit", mine)


def test_what_cannot_be_exported(shards, source, exported, key_file, tmp_path):
    with pytest.raises(AmalgamError, match="176 images of real_shards are not synthetic"):
        export_marked(shards, key_file, tmp_path / "a", Silent())
    with pytest.raises(AmalgamError, match="carry a watermark"):
        export_marked(exported, key_file, tmp_path / "b", Silent())
    with pytest.raises(AmalgamError, match="has files already"):
        export_marked(source, key_file, exported, Silent())
    with pytest.raises(AmalgamError, match="cannot be read"):
        read_key(tmp_path / "none.key")
    (tmp_path / "short.key").write_bytes(b"short")
    with pytest.raises(AmalgamError, match="has 5 bytes, fewer than 16"):
        read_key(tmp_path / "short.key")
    damaged = tmp_path / "damaged"
    shutil.copytree(source, damaged)
    shutil.copy(damaged / "test" / "test-000000.tar", damaged / "train" / "train-000000.tar")
    with pytest.raises(AmalgamError, match="28 images of the manifest are not in the shard"):
        export_marked(damaged, key_file, tmp_path / "c", Silent())
