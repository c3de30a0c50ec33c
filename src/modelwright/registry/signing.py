"""Signed manifests: Ed25519 (RFC 8032) over the canonical list of an object's files. `verify` finds what was changed, added, removed, renamed,
linked.

The private key is made on first use in the home's `keys/` (only its owner may read it); the public one lies in the manifest. A signature says
nothing unless its key is known: the keys that objects were registered with are, as `.pub` files in `keys/`, and another person's `.pub` put there
is too. Text is compared, not only meaning: every byte of a manifest counts, and flipping any of them is found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from ..errors import refuse
from . import objects
from .objects import Files, Finding

PURPOSE = b"modelwright manifest 1\n"  # a signature for something else is not one of these
DEFAULT = "modelwright.pem"


def key_at(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file; made on first use where it is missing."""
    if not path.exists():
        _make(path)
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise refuse("key.unreadable", "not a private key without a password", where=str(path), fix="an Ed25519 key as PEM (PKCS8)") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise refuse("key.kind", f"{type(key).__name__}, not an Ed25519 key", where=str(path), fix="name another with --key, or none: one is made")
    return key


def _make(path: Path) -> None:
    """The key under a name of its own first, then linked into place: of two processes that begin together one wins, and no half key is read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    half = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        os.link(half, path)
    except FileExistsError:
        return
    finally:
        half.unlink()


def public(key: Ed25519PrivateKey) -> str:
    """As 64 hex digits."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def trust(folder: Path, key: str) -> None:
    """Put a public key among those that are known."""
    if key not in trusted(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        half = folder / f".{key[:16]}.{os.getpid()}"
        half.write_text(key + "\n", "ascii")
        half.replace(folder / f"{key[:16]}.pub")


def trusted(folder: Path) -> set[str]:
    """The public keys in a keys/ folder."""
    texts = {p.read_text("ascii", "replace").strip() for p in folder.glob("*.pub") if p.is_file()} if folder.is_dir() else set()
    return {t for t in texts if len(t) == 64 and not t.strip("0123456789abcdef")}


def manifest(files: Files, key: Ed25519PrivateKey) -> str:
    """The text of manifest.json."""
    return _text({"files": files, "format": 1, "key": public(key), "signature": key.sign(PURPOSE + objects.canonical(files)).hex()})


def _text(tree: dict) -> str:
    return json.dumps(tree, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def verify(folder: Path, digest: str, keys: Iterable[str]) -> list[Finding]:
    """Everything in which an object's folder differs from what was signed and from the digest that the registry holds; nothing if all is well."""
    if folder.is_symlink() or not folder.is_dir():
        return [Finding("removed", ".", "the object is not there, or is a link")]
    files, odd = objects.listing(folder)
    path = folder / objects.MANIFEST
    if path.is_symlink() or not path.is_file():
        return [*odd, Finding("removed", objects.MANIFEST, "there is no manifest")]
    try:
        raw = path.read_bytes()
        tree = json.loads(raw)
        said = [{"path": f["path"], "sha256": f["sha256"], "size": f["size"]} for f in tree["files"]]
        signed, key = str(tree["signature"]), str(tree["key"])
        if not all(isinstance(f["path"], str) and isinstance(f["sha256"], str) for f in said):
            raise ValueError("a path or a digest is no text")
        whole = raw == _text({"files": said, "format": 1, "key": key, "signature": signed}).encode() and bytes.fromhex(signed).hex() == signed
    except (ValueError, KeyError, TypeError, RecursionError, UnicodeError) as e:
        return [*odd, Finding("manifest", objects.MANIFEST, f"it cannot be read: {e}")]
    found = [*odd, *objects.compare(said, files)]
    if not whole:
        found.append(Finding("manifest", objects.MANIFEST, "its text was changed"))
    if not _signed(said, key, signed):
        found.append(Finding("signature", objects.MANIFEST, "the signature does not fit the list of files"))
    if key not in set(keys):
        found.append(Finding("signature", objects.MANIFEST, f"signed with a key that is not trusted here ({key[:16]}...)"))
    if objects.digest_of(said) != digest:
        found.append(Finding("manifest", objects.MANIFEST, "it is the manifest of another object"))
    return found


def _signed(files: Files, key: str, signature: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), PURPOSE + objects.canonical(files))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
