"""A signed list of the files of a folder: `SHA256SUMS`, as `sha256sum -c` reads it, and `signature.json` (Ed25519)."""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.generate.watermark.keys import key_id, signing_key

SUMS, SIGNATURE = "SHA256SUMS", "signature.json"
REMEDY = "do not trust the folder; get it again from who exported it"


def public_key(key: bytes) -> str:
    """Return the public key that verifies what `key` signs, as 64 hexadecimal digits; it may be published."""
    return signing_key(key).public_key().public_bytes_raw().hex()


def sign_folder(folder: Path, key: bytes) -> None:
    """Write `SHA256SUMS` of all files of `folder`, and its signature; equal folders and keys give equal bytes."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(_digests(folder).items())]
    with replacing(folder / SUMS) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    signature = signing_key(key).sign((folder / SUMS).read_bytes())
    record = {"algorithm": "Ed25519", "signed": SUMS, "public_key": public_key(key), "signature": signature.hex()}
    write_json(folder / SIGNATURE, {**record, "key": key_id(key)})


def verify_folder(folder: Path, trusted: str | None = None) -> str:
    """Return the public key that signed `folder`, all of whose files are as they were signed.

    Args:
        folder: with `SHA256SUMS` and `signature.json`.
        trusted: the public key that must have signed. Without it, only damage is found: whoever changes files can sign
            them again with another key.

    Raises:
        AmalgamError: a file is missing, new or changed, or the signature is another's or none.
    """
    try:
        record = read_json(folder / SIGNATURE)
        listed = (folder / SUMS).read_bytes()
        signer, signature = str(record["public_key"]), bytes.fromhex(record["signature"])
        if trusted is not None and signer != trusted:
            raise AmalgamError(f"{folder.name} is signed by another key ({signer[:16]}...)", REMEDY)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(signature, listed)
        wanted = {name: digest for digest, name in (line.split("  ", 1) for line in listed.decode().splitlines())}
    except OSError as error:
        raise AmalgamError(f"{folder.name} is not signed: {error.strerror}", REMEDY) from None
    except (InvalidSignature, ValueError, KeyError, TypeError):
        raise AmalgamError(f"the signature of {folder.name} does not fit its list of files", REMEDY) from None
    found = _digests(folder)
    if changed := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        what = "missing" if changed[0] not in found else "changed" if changed[0] in wanted else "not in the signed list"
        raise AmalgamError(f"{folder.name}: {changed[0]} is {what} ({len(changed)} files differ)", REMEDY)
    return signer


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file by name, but for the list and its signature."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (SUMS, SIGNATURE):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
