"""Run folders as a run leaves them, made in milliseconds: bytes for a model, measurements with intervals, evidence recorded as `conclude` does."""

import glob
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from modelwright import evidence
from modelwright.digests import model_digest
from modelwright.forms import Measurement
from modelwright.registry import gate, policy
from modelwright.registry.store import Registry


def measured(metric, value, low, high, digests, level=0.999, split="test", target="y", slice=None):
    return Measurement("accuracy", metric, target, split, slice, value, low, high, level, 1000, "made", 0, 0.1, {}, [], digests)


class Runs:
    def __init__(self, root: Path, registry: Registry):
        self.root, self.registry, self.count = root, registry, 0

    def make(
        self, weights="one", accuracy=(0.93, 0.91, 0.95), require=None, task_require=None, record=True, rows="rows", target="y", parents=(), **but
    ):
        """A run folder. accuracy: value, low, high. require: limits of the audit; task_require: what task.yaml says, where that differs."""
        self.count += 1
        folder = self.root / f"run-{self.count}"
        (folder / "model" / "parts").mkdir(parents=True)
        (folder / "model" / "model.safetensors").write_bytes(f"weights {weights}".encode())
        (folder / "model" / "model.json").write_text(json.dumps({"format": 1, "名": weights}, ensure_ascii=False), "utf-8")
        (folder / "model" / "parts" / "words.txt").write_text("一\n二\n", "utf-8")
        limits = gate.parse({"accuracy": ">= 0.90"} if require is None else require)
        model, data = model_digest(folder / "model"), {"train": "sha256:train", "test": "sha256:test"}
        digests = {"model": model, "data": data["test"], "code": "sha256:code"} | but
        lines = [measured("accuracy", *accuracy, digests)] if accuracy else []
        decision = gate.decide(limits, lines, digests={"model": model, "data": data, "code": "sha256:code"})
        openings = self.registry.open_test(f"sha256:{rows}", folder.name, limits, [target])
        said = {"model": model, "data": data, "code": "sha256:code", "policy": limits, "test_openings": openings, "test_rows": f"sha256:{rows}"}
        found = evidence.build(lines, decision, **said | {k: v for k, v in but.items() if k == "model"})
        if record:
            self.registry.record(found, folder.name)
        (folder / "evidence.json").write_text(evidence.dumps(found), "utf-8")
        lineage = {"code": "sha256:code", "data": data, "parents": list(parents), "stages": [{"statement": {"epsilon": 3.0}}, {"statement": {}}]}
        (folder / "lineage.json").write_text(json.dumps(lineage), "utf-8")
        (folder / "card.md").write_text("---\nlibrary_name: modelwright\n---\n\n# A model\n\n## What it does\n\nIt says y.\n", "utf-8")
        declared = policy.as_require(limits) if task_require is None else task_require
        (folder / "task.yaml").write_text(yaml.safe_dump({"data": "rows.csv", "target": target, "audit": {"require": declared}}), "utf-8")
        (folder / "plan.json").write_text("{}", "utf-8")
        (folder / "metrics.jsonl").write_text("{}\n", "utf-8")
        return folder

    def audit(self, model, source, rows="rows", data=None, require=None, train=None, task=None, **figures):
        """A later audit of a model's bytes, as `modelwright audit` records it. figures: metric=(value, low, high); data: digest of the test table;
        task: of what was asked."""
        limits = gate.parse({"accuracy": ">= 0.90"} if require is None else require)
        splits = {"test": data or f"sha256:table of {rows}"} | ({"train": train} if train else {})
        digests = {"model": model, "data": splits["test"], "code": "sha256:newer code"} | ({"task": task} if task else {})
        lines = [measured(metric.replace("__", "."), *value, digests) for metric, value in figures.items()]
        decision = gate.decide(limits, lines, digests={"model": model, "data": splits, "code": "sha256:newer code"})
        openings = self.registry.open_test(f"sha256:{rows}", source, limits, ["y"])
        said = {"code": "sha256:newer code", "policy": limits, "test_openings": openings, "test_rows": f"sha256:{rows}"}
        return self.registry.record(evidence.build(lines, decision, model=model, data=splits, **said), source, who="ann")

    def register(self, name="m", at="2026-06-01T00:00:00Z", **settings):
        return self.registry.register(self.make(**settings), name, who="ann", at=at)


@pytest.fixture
def url():
    """None: SQLite. `test_postgres.py` has another."""


@pytest.fixture
def runs(tmp_path, url):
    return Runs(tmp_path / "runs", Registry(tmp_path / "home" / "registry.sqlite", url=url))


@pytest.fixture
def registry(runs):
    return runs.registry


@pytest.fixture(scope="session")
def server():
    """The URL of a PostgreSQL server where databases may be made: MODELWRIGHT_TEST_POSTGRES names one; else one of our own, where it is installed,
    that listens on a socket in a folder of its own and is gone afterwards."""
    pytest.importorskip("psycopg")
    if url := os.environ.get("MODELWRIGHT_TEST_POSTGRES"):
        yield url
        return
    found = [shutil.which("initdb"), *glob.glob("/usr/lib/postgresql/*/bin/initdb"), *glob.glob("/opt/homebrew/opt/postgresql*/bin/initdb")]
    programs = [Path(p).resolve().parent for p in found if p]
    if not programs:
        pytest.skip("PostgreSQL is not installed (no initdb), and MODELWRIGHT_TEST_POSTGRES names no server")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
    root = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}  # PostgreSQL does not run as root
    if root:
        shutil.chown(folder, "nobody")
    settings = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=40"

    def do(*command):
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **root)

    do(programs[0] / "initdb", "-D", folder / "data", "-U", "test", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
    do(programs[0] / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-o", settings, "start")
    try:
        yield f"host={folder} user=test dbname=postgres"
    finally:
        do(programs[0] / "pg_ctl", "-D", folder / "data", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def postgres(server):
    """The URL of an empty database of one's own."""
    import psycopg

    name = f"modelwright_test_{os.getpid()}_{os.urandom(3).hex()}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
    yield psycopg.conninfo.make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"DROP DATABASE {name} WITH (FORCE)")
