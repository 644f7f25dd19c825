"""The leaderboard: what is ranked with what, what is only listed, and what strangers' audits cannot do."""

import csv
import json
import re

import pytest

from advfool.auditing.leaderboard.entries import find_audits, read_entries
from advfool.auditing.leaderboard.page import write_leaderboard
from advfool.auditing.leaderboard.tables import rankings
from advfool.utilities.errors import AdvfoolError
from tests.helpers.audits import audit_folder, broken, record, unattacked
from tests.helpers.command import run_here


@pytest.fixture
def audits(tmp_path):
    """Three audits: two that are alike, one with another budget."""
    detected = broken(rate=0.7) | {"detectors": {"noise": {"auc": 0.81}, "aopc": {"auc": 0.6}}}
    audit_folder(tmp_path / "in" / "one", record({"gradcam": broken(), "void": unattacked("unfaithful", faithful=0.1)}))
    audit_folder(tmp_path / "in" / "deep" / "two", record({"lrp_t": detected}, model="vgg_tiny", seed=3))
    other = record({"gradcam": broken(rate=1.0)}, budget={"top1": 0.02, "agreement": 0.94})
    other["settings"]["top1"] = 0.02
    other["interpreters"]["gradcam"]["curve"] = []
    audit_folder(tmp_path / "in" / "three", other)
    return tmp_path / "in"


def test_what_was_measured_alike_is_ranked_and_nothing_else(audits, tmp_path):
    tables = rankings(read_entries([str(audits)], tmp_path))
    assert [(table.suite, table.budget, len(table.rows)) for table in tables] == [("AM-1", 0.01, 3), ("AM-1", 0.02, 1)]
    rows = tables[0].rows
    assert [(row.rank, row.interpreter, row.network) for row in rows] == [
        (1, "gradcam", "resnet_tiny"),
        (2, "lrp_t", "vgg_tiny"),
        (None, "void", "resnet_tiny"),
    ]
    assert (rows[1].auc, rows[1].detector, rows[1].seed) == (0.81, "noise", 3)
    assert rows[2].auc is None
    assert tables[0].changed == ""


@pytest.mark.parametrize(
    "change", [{"suite": "AM-2"}, {"settings": {"top1": 0.01, "seed": 0, "faithfulness.steps": 9}}]
)
def test_other_suites_and_settings_stand_apart(change, tmp_path):
    one, other = audit_folder(tmp_path / "one"), audit_folder(tmp_path / "other", record(**change))
    tables = rankings(read_entries([str(one), str(other)], tmp_path))
    assert [len(table.rows) for table in tables] == [1, 1]
    assert [table.changed for table in tables] == ["", "" if "suite" in change else "faithfulness.steps=9"]


def test_a_record_that_contradicts_itself_has_no_rank(tmp_path):
    audit_folder(tmp_path / "a", record({"gradcam": broken(rate=1.0, verdict="not broken by AM-1")}))
    audit_folder(tmp_path / "b", record({"lrp_t": broken(rate=0.6)}))
    rows = rankings(read_entries([str(tmp_path)], tmp_path))[0].rows
    assert [(row.rank, row.interpreter, row.agrees) for row in rows] == [(1, "lrp_t", True), (None, "gradcam", False)]


def test_the_page_and_both_tables_have_every_row(audits, tmp_path):
    page = write_leaderboard([str(audits)], tmp_path / "out")
    text = page.read_text()
    assert text.count("<tbody>") == 2
    assert "http" not in text.replace("http-equiv", "")
    assert 'href="../in/deep/two/audit.html"' in text
    table = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["tables"][0]
    assert table["rows"][0]["page"] == "../in/one/audit.html"
    lines = list(csv.DictReader((tmp_path / "out" / "leaderboard.csv").open()))
    assert [line["interpreter"] for line in lines] == ["gradcam", "lrp_t", "void", "gradcam"]
    assert (lines[0]["deceptive_rate"], lines[2]["deceptive_rate"], lines[2]["rank"]) == ("0.9", "", "")
    again = write_leaderboard([str(audits)], tmp_path / "out")  # its own folder is no audit
    assert again.read_text() == text


def test_strangers_texts_stay_text(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    folder = audit_folder(
        tmp_path / "=1+1", record({evil: broken(weights={"file": "x.safetensors", "sha256": "0" * 64})})
    )
    tree = json.loads((folder / "audit.json").read_text()) | {"model": "=HYPERLINK(1)", "data": "\x1b[2Jdata"}
    (folder / "audit.json").write_text(json.dumps(tree))
    (folder / "audit.html").unlink()
    (folder / "audit.html").symlink_to("/etc/hostname")
    page = write_leaderboard([str(folder)], tmp_path)
    text = page.read_text()
    assert "<img" not in text
    assert len(re.findall("</script>", text)) == 1
    assert "href" not in text
    assert "\x1b" not in text
    (line,) = csv.DictReader((tmp_path / "leaderboard.csv").open())
    assert (line["network"], line["audit"]) == ("'=HYPERLINK(1)", "'=1+1")


def test_all_bad_folders_are_named_at_once(audits, tmp_path):
    (audits / "one" / "audit.json").write_text("{")
    (audits / "three" / "audit.json").write_text('{"schema": 7}')
    with pytest.raises(AdvfoolError, match="2 cannot be used") as error:
        write_leaderboard([str(audits)], tmp_path / "out")
    assert "one/audit.json' is damaged" in str(error.value)
    assert "three/audit.json': expected schema 1, got 7" in str(error.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(AdvfoolError, match="found no 'audit.json' in '/nowhere'"):
        write_leaderboard(["/nowhere"], tmp_path)


def test_folders_patterns_and_folders_above_find_each_audit_once(audits):
    patterns = [str(audits / "one"), str(audits / "*"), str(audits), f"{audits}/**"]
    assert [folder.name for folder in find_audits(patterns)] == ["one", "two", "three"]


def test_the_command_joins_and_checks(audits, tmp_path):
    done = run_here("advfool.leaderboard", [f"audits=[{audits}/one,{audits}/deep]", f"output={tmp_path}/out"])
    assert done.returncode == 0, done.stderr
    assert "out/leaderboard.html" in done.stdout
    done = run_here("advfool.leaderboard", [f"check={audits}"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agrees with itself") == 3
    (audits / "one" / "gradcam.safetensors").write_bytes(b"")
    (audits / "three" / "audit.json").write_text("[]")
    done = run_here("advfool.leaderboard", [f"check=[{audits}]"])
    assert done.returncode == 1
    assert "one: gradcam: the SHA-256 of gradcam.safetensors" in done.stderr
    assert "three/audit.json' is damaged" in done.stderr
    done = run_here("advfool.leaderboard", [])
    assert done.returncode == 1
    assert "give folders of audits" in done.stderr
