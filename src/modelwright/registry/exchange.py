"""To and from MLflow's model registry: a version with its files, as a registered model version; and back, with the same digest.

A version goes whole, as it is signed, so that what comes back is byte for byte what went (its digest is a tag, and is compared); what the registry knows
besides (verdict, limits, overrides) goes as tags and description, for people: nothing of it is believed on the way in. Measurements stay where they were
made: on another machine an imported version is audited again before it is promoted. A model that MLflow has from elsewhere comes in by its ONNX flavour
alone; every other flavour is a pickle, or code, and is refused.

A place is a tracking URI (sqlite:///file.db, http://host), or a folder, in which mlflow.db and artifacts/ are then kept. MLflow's telemetry is switched off.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ..errors import ModelwrightError, Problem, Stopped, refuse
from . import objects, signing
from .export import AGAINST, card, copied, notices
from .judge import judge
from .store import Registry
from .versions import Version

PLACE = "mlflow:"
FILES = "version"  # the folder among a run's artifacts
LONGEST = 4000  # characters of a tag


def to_mlflow(registry: Registry, version: Version, place: str, today: str, alias: str | None = None) -> dict[str, Any]:
    """A version (from `resolve`) as a registered model's next version, or as the one with its digest that is there already. alias: it is given too."""
    with _client(place) as (client, artifacts), copied(registry, version, registry.objects / "to-mlflow") as kept:
        tags = _tags(registry, version, today)
        there = [v for v in _versions(client, version.name) if v.tags.get("modelwright.digest") == version.digest]
        if there:
            number = max(int(v.version) for v in there)
            for key, value in tags.items():  # the verdict and the overrides of today
                client.set_model_version_tag(version.name, str(number), key, value)
        else:
            experiment = client.get_experiment_by_name("modelwright")
            experiment_id = experiment.experiment_id if experiment else client.create_experiment("modelwright", artifacts)
            run = client.create_run(experiment_id, run_name=version.reference, tags=tags)
            client.log_artifacts(run.info.run_id, str(kept.folder), FILES)
            client.set_terminated(run.info.run_id)
            if not _named(client, version.name):
                client.create_registered_model(version.name)
            source = f"{run.info.artifact_uri}/{FILES}"
            made = client.create_model_version(version.name, source, run.info.run_id, tags=tags, description=card(registry, kept, today)[:LONGEST])
            number = int(made.version)
        if alias is not None:
            client.set_registered_model_alias(version.name, alias, str(number))
    return {"name": version.name, "version": number, "digest": version.digest, "alias": alias, "verdict": tags["modelwright.verdict"]}


def _tags(registry: Registry, version: Version, today: str) -> dict[str, str]:
    found = judge(registry, version)
    path = version.folder / "evidence.json"
    policy = json.loads(path.read_bytes()).get("policy") if path.exists() else None
    tags = {"digest": version.digest, "model": version.model, "verdict": found.verdict, "policy": policy or "none", "reference": version.reference}
    tags["reasons"] = "; ".join(f"{r['code']}: {r['text']}" for r in found.reasons) or "none"
    tags["overrides"] = " | ".join(notices(registry, version, today).get(AGAINST, [])) or "none"
    return {f"modelwright.{k}": v[:LONGEST] for k, v in tags.items()}


def from_mlflow(registry: Registry, place: str, reference: str, name: str | None = None, task: str | None = None) -> tuple[Version, str]:
    """A registered model version (NAME, NAME@3 or NAME@ALIAS there) as a version here, and a note. task: the text of a task.yaml, for a model from
    elsewhere: what it says of columns, labels and limits."""
    theirs, _, at = reference.partition("@")
    with _client(place) as (client, _), TemporaryDirectory(prefix="modelwright-") as scratch:
        found = _found(client, theirs, at, reference)
        folder = _downloaded(client, found, Path(scratch) / "got")
        if (folder / objects.MANIFEST).is_file():
            return _ours(registry, folder, found, name or theirs)
        model = _onnx(folder, reference)
        parent = f"mlflow: {theirs} version {found.version}, run {found.run_id or 'unknown'}"
        return bring(registry, {"model.onnx": model}, name or theirs, parent, task, Path(scratch) / "made"), "from its ONNX flavour"


def bring(
    registry: Registry, files: Mapping[str, Path], name: str, parent: str, task: str | None, folder: Path, lineage: Mapping[str, Any] | None = None
) -> Version:
    """Files of a model from elsewhere as a version, which no evidence speaks for yet. folder: to put it together in; parent: where it came from;
    lineage: what came with it."""
    (folder / "model").mkdir(parents=True)
    for path, source in files.items():
        (folder / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / "model" / path)
    told = {"stages": [], **(lineage or {}), "parents": [*(lineage or {}).get("parents", []), parent]}
    (folder / "lineage.json").write_text(json.dumps(told, ensure_ascii=False, indent=1), "utf-8")
    text = f"# {name}\n\nA model from elsewhere ({parent}). Nothing was measured when it was imported: `modelwright registry history {name}`.\n"
    (folder / "card.md").write_text(text, "utf-8")
    if task is not None:
        (folder / "task.yaml").write_text(task, "utf-8")
    return registry.register(folder, name)


def _ours(registry: Registry, folder: Path, found: Any, name: str) -> tuple[Version, str]:
    """What left a registry of ours: whole, and of the digest that its tag names."""
    said = found.tags.get("modelwright.digest")
    files, odd = objects.listing(folder)
    digest = objects.digest_of(files)
    manifest = folder / objects.MANIFEST
    try:
        key = str(json.loads(manifest.read_bytes())["key"])
    except (ValueError, KeyError, TypeError) as e:
        raise refuse("mlflow.tampered", "its manifest.json cannot be read", where=found.name, fix="export it again from where it was registered") from e
    wrong = [f"{f.kind}: {f.path}: {f.text}" for f in signing.verify(folder, digest, {key})]
    if said != digest or wrong or odd:
        what = "; ".join(wrong[:5]) or f"its digest is {digest[:19]}, and its tag says {str(said)[:19]}"
        why = "it is not what left the registry that signed it"
        raise refuse("mlflow.tampered", what, why=why, where=found.name, fix="export it again from where it was registered")
    known = key in signing.trusted(registry.keys)
    made = registry.register(folder, name)
    assert made.digest == digest, (made.digest, digest)
    unknown = f"it was signed by a key that is not known here ({key[:16]}...), and is signed by yours now"
    return made, "signed by a key that is trusted here" if known else unknown


def _onnx(folder: Path, where: str) -> Path:
    """The ONNX file of an MLflow model."""
    try:
        flavours = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))["flavors"]
        data = flavours.get("onnx", {}).get("data")
        flavours = sorted(flavours)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as e:
        what = "it is neither a version that was exported from here nor a model of MLflow's"
        raise refuse("mlflow.form", what, where=where, fix="log it with mlflow.onnx.log_model") from e
    if data is None:
        why = "other flavours are pickles or code, which run when they are read; neither is ever loaded"
        fix = "convert it (skl2onnx, torch.onnx.export) and log it with mlflow.onnx.log_model"
        raise refuse("mlflow.pickle", f"its flavours are {', '.join(flavours)}: none is ONNX", why=why, where=where, fix=fix)
    path = (folder / str(data)).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file() or (folder / str(data)).is_symlink():
        raise refuse("mlflow.form", f"its ONNX file {data!r} is not in it", where=where, fix="log it again")
    return _whole(path, where)


def _whole(path: Path, where: str) -> Path:
    """The file with the weights that MLflow lays beside it: a model's digest is of one file. Links and paths out of its folder are refused by onnx."""
    if not any(p.suffix == ".data" for p in path.parent.iterdir()):
        return path
    try:
        import onnx

        made = path.with_name("whole.onnx")
        onnx.save_model(onnx.load(path), made)
    except ModuleNotFoundError as e:
        what, fix = "its weights lie in a file beside it, and putting them into it needs the package 'onnx'", "pip install onnx"
        raise refuse("extra.missing", what, where=where, fix=fix) from e
    except Exception as e:  # noqa: BLE001 - protobuf's and onnx's errors share no base
        fix = "log it with mlflow.onnx.log_model(..., save_as_external_data=False)"
        raise refuse("mlflow.form", f"its ONNX file cannot be made whole: {str(e)[:200]}", where=where, fix=fix) from e
    return made


# MLflow itself


@contextmanager
def _client(place: str) -> Iterator[tuple[Any, str | None]]:
    """The client, and where a new experiment's artifacts go (None: the server knows). What goes wrong in MLflow, in words; no password is shown."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before it is imported
    try:
        import mlflow
    except ModuleNotFoundError as e:
        what = f"MLflow's registry needs the package {e.name!r}"
        raise refuse("extra.missing", what, where=PLACE, fix="pip install 'modelwright[mlflow]'") from e
    if not place:
        raise refuse("usage", "mlflow: names no place", where="mlflow:", fix="mlflow:FOLDER or mlflow:sqlite:///FILE.db")
    uri, artifacts = place, None
    if "://" not in place:
        folder = Path(place).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        uri, artifacts = f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri()
    elif place.startswith("sqlite:///"):
        artifacts = (Path(place.removeprefix("sqlite:///")).absolute().parent / "artifacts").as_uri()
    try:
        yield mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), artifacts
    except ModelwrightError:
        raise
    except ModuleNotFoundError as e:  # mlflow-skinny, a part of it
        raise refuse("extra.missing", f"MLflow's registry there needs the package {e.name!r}", where=PLACE, fix="pip install 'modelwright[mlflow]'") from e
    except Exception as e:  # noqa: BLE001 - MLflow, its drivers and its server raise anything
        said = hidden((str(e).strip() or type(e).__name__).split("\n")[0][:300])
        fix = "check the URI, and that the server answers"
        raise Stopped(Problem("mlflow.failed", f"MLflow says: {said}", where=hidden(f"{PLACE}{place}"), fix=fix)) from None


def hidden(text: str) -> str:
    """Without the password of a URL in it."""
    return re.sub(r"://[^/@\s]*@", "://***@", text)


def _named(client: Any, name: str) -> bool:
    return bool(client.search_registered_models(f"name = '{name}'"))


def _versions(client: Any, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'")) if _named(client, name) else []


def _found(client: Any, name: str, at: str, reference: str) -> Any:
    if "'" in name or not _named(client, name):
        raise refuse("mlflow.unknown", f"MLflow has no model {name!r}", where=reference, fix="NAME, NAME@3 or NAME@ALIAS, as MLflow lists them")
    versions = _versions(client, name)
    if at and not at.isdigit():
        aliases = client.get_registered_model(name).aliases
        if at not in aliases:
            raise refuse("mlflow.unknown", f"{name} has no alias {at!r} there", where=reference, fix=f"one of: {', '.join(aliases) or 'none'}")
        at = str(aliases[at])
    found = [v for v in versions if not at or str(v.version) == at]
    if not found:
        raise refuse("mlflow.unknown", f"{name} has no version {at or 'at all'} there", where=reference, fix=f"there are {len(versions)} versions")
    return client.get_model_version(name, str(max(int(v.version) for v in found)))


def _downloaded(client: Any, found: Any, to: Path) -> Path:
    import mlflow

    to.mkdir()
    uri = client.get_model_version_download_uri(found.name, str(found.version))
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=client.tracking_uri))
