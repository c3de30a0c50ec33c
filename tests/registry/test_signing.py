"""Every way to change an object is found; keys are made once, private, and named."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

from modelwright.errors import Refusal
from modelwright.registry import objects, signing


@pytest.fixture
def version(runs):
    """A version whose folder can be written, as an intruder's could."""
    made = runs.register()
    for path in [made.folder, *made.folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


def kinds(registry, version):
    return {f.kind for f in signing.verify(version.folder, version.digest, signing.trusted(registry.keys))}


def test_an_untouched_object_verifies(runs, registry, version):
    assert kinds(registry, version) == set()


def test_every_byte_counts(registry, version):
    """Each byte of the manifest and of every file, with one bit flipped, with its case bit flipped, and cut off at the end."""
    for path in [p for p in version.folder.rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        step = 1 if path.name in (objects.MANIFEST, "model.safetensors") else 37
        for i in range(0, len(whole), step):
            for bit in (1, 32):
                path.write_bytes(whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :])
                assert kinds(registry, version), (path.name, i, bit)
        path.write_bytes(whole[:-1])
        assert kinds(registry, version), path.name
        path.write_bytes(whole + b"\n")
        assert kinds(registry, version), path.name
        path.write_bytes(whole)
    assert not kinds(registry, version)


@pytest.mark.parametrize(
    "what", ["added", "hidden", "folder", "removed", "renamed", "swapped", "symbolic", "hard", "pipe", "no manifest", "gone", "a link"]
)
def test_tampering_is_found_and_named(registry, version, tmp_path, what):
    model = version.folder / "model"
    if what == "added":
        (model / "more.py").write_text("print()")
    elif what == "hidden":
        (version.folder / ".hidden").write_text("x")
    elif what == "folder":
        (model / "empty").mkdir()
    elif what == "removed":
        (version.folder / "evidence.json").unlink()
    elif what == "renamed":
        (model / "model.json").rename(model / "model2.json")
    elif what == "swapped":
        (model / "model.json").rename(tmp_path / "a")
        (version.folder / "plan.json").rename(model / "model.json")
        (tmp_path / "a").rename(version.folder / "plan.json")
    elif what == "symbolic":
        shutil.move(model / "model.safetensors", tmp_path / "elsewhere")
        (model / "model.safetensors").symlink_to(tmp_path / "elsewhere")  # the very same bytes, but no longer in the store
    elif what == "hard":
        os.link(model / "model.safetensors", tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(model / "pipe")
    elif what == "no manifest":
        (version.folder / objects.MANIFEST).unlink()
    elif what == "gone":
        shutil.rmtree(version.folder)
    elif what == "a link":
        shutil.move(version.folder, tmp_path / "elsewhere")
        version.folder.symlink_to(tmp_path / "elsewhere")
    named = {"hidden": "added", "folder": "added", "swapped": "changed", "symbolic": "linked", "hard": "linked", "pipe": "added"}
    assert named.get(what, "removed" if what in ("no manifest", "gone", "a link") else what) in kinds(registry, version)


def test_a_manifest_of_anothers_making(runs, registry, version, tmp_path):
    """Signed anew over changed bytes: with a stranger's key, and with our own key over another list."""
    weights, path = version.folder / "model" / "model.safetensors", version.folder / objects.MANIFEST
    weights.write_bytes(b"better")
    files = objects.listing(version.folder)[0]
    path.write_text(signing.manifest(files, signing.key_at(tmp_path / "stranger.pem")), "utf-8")
    assert kinds(registry, version) == {"signature", "manifest"}
    path.write_text(signing.manifest(files, signing.key_at(registry.keys / signing.DEFAULT)), "utf-8")
    assert kinds(registry, version) == {"manifest"}  # a good signature, but not the object that the registry knows


def test_a_manifest_is_never_a_way_out(registry, version):
    """Paths that leave the object, properly signed: named, and nothing outside is read."""
    path, key = version.folder / objects.MANIFEST, signing.key_at(registry.keys / signing.DEFAULT)
    files = json.loads(path.read_bytes())["files"]
    for name in ("../../keys/modelwright.pem", "/etc/passwd", "model\\..\\x", files[0]["path"]):
        path.write_text(signing.manifest([*files, {"path": name, "sha256": "0" * 64, "size": 0}], key), "utf-8")
        found = signing.verify(version.folder, version.digest, signing.trusted(registry.keys))
        assert any(f.kind == "manifest" and f.path == name for f in found), name


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"null", b"\xff", b'{"files": [1], "key": 1, "signature": 1}', b"[" * 100_000])
def test_a_broken_manifest_is_a_finding_not_a_crash(registry, version, text):
    (version.folder / objects.MANIFEST).write_bytes(text)
    assert "manifest" in kinds(registry, version)


def test_the_digest_is_its_definition():
    """By hand: sha256 of the canonical text of two entries."""
    import hashlib

    files = [{"path": "a", "sha256": "00", "size": 1}, {"path": "乙", "sha256": "ff", "size": 2}]
    text = '{"files":[{"path":"a","sha256":"00","size":1},{"path":"乙","sha256":"ff","size":2}],"format":1}'
    assert objects.canonical(files) == text.encode() and objects.digest_of(files) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_signatures_are_ed25519_as_others_compute_it(tmp_path):
    """RFC 8032, 7.1, test 2: the key and the signature of one byte."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert signing.public(key) == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540")


def test_keys_are_made_once_and_are_private(runs, registry, tmp_path):
    runs.register()
    path = registry.keys / signing.DEFAULT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(registry.keys.stat().st_mode) == 0o700
    before = path.read_bytes()
    runs.register(weights="two")
    assert path.read_bytes() == before and signing.trusted(registry.keys) == {signing.public(signing.key_at(path))}
    other = tmp_path / "mine" / "key.pem"
    with pytest.raises(Refusal, match="does not exist"):  # a slip in a name is no wish for another key
        registry.register(runs.make(weights="three"), "m", key=other)
    assert not other.exists()
    signing.key_at(other)
    made = registry.register(runs.make(weights="three"), "m", key=other)
    assert stat.S_IMODE(other.stat().st_mode) == 0o600 and kinds(registry, made) == set()
    assert json.loads((made.folder / objects.MANIFEST).read_bytes())["key"] == signing.public(signing.key_at(other))


def test_a_key_that_several_processes_make_is_one(tmp_path):
    work = "import sys\nfrom pathlib import Path\nfrom modelwright.registry import signing\nprint(signing.public(signing.key_at(Path(sys.argv[1]))))"
    started = [subprocess.Popen([sys.executable, "-c", work, tmp_path / "keys" / "k.pem"], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert len({s.communicate(timeout=60)[0] for s in started}) == 1 and [p.name for p in (tmp_path / "keys").iterdir()] == ["k.pem"]


def test_other_keys_are_refused(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "key.pem"
    for text, problem in (
        (b"nothing", "key.unreadable"),
        (generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "key.kind"),
    ):
        path.write_bytes(text)
        with pytest.raises(Refusal) as e:
            signing.key_at(path)
        assert e.value.problems[0].code == problem and e.value.problems[0].fix
