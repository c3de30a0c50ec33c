"""An override, standing or lapsed, is the first thing that card, report, index and export say; what was signed stays as it was signed."""

import json

import pytest

from modelwright.errors import Refusal
from modelwright.registry.export import AGAINST, SINCE, card, huggingface, report
from modelwright.registry.promotion import promote
from modelwright.report.index import render

AT = "2026-06-01T12:00:00Z"
WANTED = {"who": "李医生", "why": "the <old> scanner\n**went**", "until": "2026-07-31"}
PAGE = '<!doctype html>\n<html lang="en"><head><title>t</title></head>\n<body class="a">\n<h1>A model</h1></body></html>\n'


@pytest.fixture
def version(runs, registry):
    run = runs.make(accuracy=(0.80, 0.75, 0.85))
    (run / "report.html").write_text(PAGE, "utf-8")
    return registry.register(run, "m")


def test_without_an_override_they_are_as_the_run_wrote_them(registry, version):
    assert report(registry, version, "2026-06-02") == PAGE and card(registry, version, "2026-06-02") == (version.folder / "card.md").read_text("utf-8")


def test_a_report_begins_with_it_and_keeps_every_byte_of_its_own(registry, version, tmp_path):
    promote(registry, "m", override=WANTED, at=AT)
    for today, state in (("2026-07-31", "until 2026-07-31"), ("2026-08-01", "lapsed after 2026-07-31")):
        page = report(registry, version, today)
        banner = page[page.index("<aside") : page.index("</aside>")]
        assert AGAINST in banner and "李医生" in banner and state in banner and "&lt;old&gt;" in banner and "accuracy.below_limit" in banner
        assert page.index(AGAINST) < page.index("<h1>") and page.replace(page[page.index("\n<aside") : page.index("</aside>") + len("</aside>")], "") == PAGE
    assert registry.verify("m") == [] and (version.folder / "report.html").read_text("utf-8") == PAGE
    out = tmp_path / "hf"
    files = huggingface(registry, version, out, "2026-06-02", render)
    assert "report.html" not in files  # it shows rows of the data
    for name in ("README.md", "index.md"):
        text = (out / name).read_text("utf-8")
        assert AGAINST in text and text.index(AGAINST) < text.index("# ") and "&lt;old&gt;" in text and "\\*\\*went" in text


def test_by_the_command_line(registry, version, tmp_path, monkeypatch, capsys):
    from modelwright.cli import main

    monkeypatch.setenv("MODELWRIGHT_HOME", str(registry.path.parent))
    promote(registry, "m", override=WANTED | {"until": "2099-01-01"}, at=AT)

    def cli(*args):
        monkeypatch.setattr("sys.argv", ["modelwright", *map(str, args), "--json"])
        with pytest.raises(SystemExit) as e:
            main()
        return e.value.code or 0, json.loads(capsys.readouterr().out)

    assert cli("registry", "report", "m@production", tmp_path / "r.html")[0] == 0 and AGAINST in (tmp_path / "r.html").read_text("utf-8")
    status, said = cli("registry", "report", "m@production", tmp_path / "r.html")
    assert status == 2 and said["errors"][0]["code"] == "export.exists"
    assert cli("registry", "show", "m")[1]["overrides"][0]["who"] == "李医生"


def test_later_audits_are_told_too(runs, registry, version):
    runs.audit(version.model, "<b>winter</b>", rows="winter", accuracy=(0.95, 0.93, 0.97))
    for text in (card(registry, version, "2026-06-02"), report(registry, version, "2026-06-02")):
        assert SINCE in text and AGAINST not in text and "&lt;b&gt;winter" in text and ": pass" in text and text.index(SINCE) < text.index("A model")
    promote(registry, "m", override=WANTED, at=AT)
    page = report(registry, version, "2026-06-02")
    assert page.index("<body") < page.index(AGAINST) < page.index(SINCE) < page.index("<h1>")


def test_a_version_without_a_report_says_so(runs, registry):
    made = runs.register()
    assert report(registry, made, "2026-06-02") is None


def test_a_card_that_was_not_registered_still_shows_it(runs, registry):
    run = runs.make(accuracy=(0.80, 0.75, 0.85))
    (run / "card.md").unlink()
    made = registry.register(run, "m")
    promote(registry, "m", override=WANTED, at=AT)
    assert card(registry, made, "2026-06-02").startswith(f"> **{AGAINST}**")
    with pytest.raises(Refusal):
        promote(registry, "m", override=WANTED, at="2026-08-01T00:00:00Z")  # until has passed


def test_what_was_exported_comes_back_with_the_same_bytes(runs, registry, tmp_path, monkeypatch, capsys):
    """Its model has the digest that evidence speaks of; what somebody changed in the folder has another, and nothing speaks for it."""
    from modelwright.cli import main

    made, out = runs.register(), tmp_path / "out"
    huggingface(registry, registry.resolve("m"), out, "2026-06-02", render)
    monkeypatch.setenv("MODELWRIGHT_HOME", str(registry.path.parent))

    def cli(*args):
        monkeypatch.setattr("sys.argv", ["modelwright", *map(str, args), "--json"])
        with pytest.raises(SystemExit) as e:
            main()
        return e.value.code or 0, json.loads(capsys.readouterr().out)

    status, told = cli("registry", "import", out, "--name", "back")
    back = registry.resolve("back")
    assert status == 0 and back.model == told["model"] == made.model and back.lineage["data"] == made.lineage["data"] and "file: out" in back.lineage["parents"]
    (tmp_path / "policy.yaml").write_text('require: {accuracy: ">= 0.9"}', "utf-8")
    assert cli("promote", "back", "--policy", tmp_path / "policy.yaml")[0] == 0
    weights = out / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    assert cli("registry", "import", out, "--name", "changed")[0] == 0
    status, told = cli("promote", "changed", "--policy", tmp_path / "policy.yaml")
    assert status == 3 and [r["code"] for r in told["decision"]["reasons"]] == ["gate.missing"]
    for archive in ("version.zip", "version.tar"):
        (tmp_path / archive).write_bytes(b"PK\x03\x04../../etc/passwd")
        status, told = cli("registry", "import", tmp_path / archive, "--name", "archive")
        assert status == 2 and told["errors"][0]["code"] == "model.missing"
