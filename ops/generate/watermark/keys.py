"""What a key file gives: the pattern of the mark, a name for the key, and the pair that signs.

The key itself is never written anywhere: settings, manifests and records know its identifier only.
"""

import hashlib
import hmac
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ops.errors import AmalgamError

LEAST_BYTES = 16


def read_key(path: Path) -> bytes:
    """Return the bytes of a key file; raises AmalgamError if it is missing or has fewer than 16 bytes."""
    remedy = f"make one: head -c 32 /dev/urandom > {path.name}, and keep it out of the repository"
    try:
        key = path.read_bytes()
    except OSError as error:
        raise AmalgamError(f"the key file {path.name} cannot be read: {error.strerror}", remedy) from None
    if len(key) < LEAST_BYTES:
        raise AmalgamError(f"the key file {path.name} has {len(key)} bytes, fewer than {LEAST_BYTES}", remedy)
    return key


def key_id(key: bytes) -> str:
    """Return 16 hexadecimal digits that name `key` and do not give it away."""
    return hmac.digest(key, b"amalgam: key id", "sha256").hex()[:16]


def pattern(key: bytes, count: int, height: int, width: int) -> np.ndarray:
    """Return the signs (count,) float64, +1 or -1, of the mark in images of that size.

    The bits are SHAKE-256 of key and size, so that nobody without the key can tell them from fair coins, and images of
    one size do not give away those of another.
    """
    name = f"amalgam: watermark {height}x{width}".encode()
    data = hashlib.shake_256(len(key).to_bytes(8, "big") + key + name).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(data, np.uint8))[:count]
    return np.where(bits == 1, 1.0, -1.0)


def signing_key(key: bytes) -> Ed25519PrivateKey:
    """Return the Ed25519 private key that follows from `key` (HKDF with SHA-256)."""
    derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"amalgam: shard index signature")
    return Ed25519PrivateKey.from_private_bytes(derive.derive(key))
