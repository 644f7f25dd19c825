"""audit.json: what a record has to hold, and what of a stranger's is refused."""

import json
import runpy
from pathlib import Path

import pytest

from advfool.auditing.card import bibtex, card
from advfool.auditing.record import as_record, read_record
from advfool.utilities.errors import AdvfoolError
from tests.helpers.audits import audit_folder, broken, record, unattacked

DOCS = Path(__file__).parents[2] / "docs"


def test_a_record_is_read_with_everything_in_it(tmp_path):
    found, tree = read_record(audit_folder(tmp_path / "a", record(later="kept")))
    assert found.interpreters["gradcam"].verdict == "broken by location"
    assert found.version == 1
    assert tree["later"] == "kept"  # keys that this version does not know are no error


def test_the_schema_and_its_page_are_up_to_date():
    made = runpy.run_path(str(DOCS / "make_audit_schema.py"))
    assert made["SCHEMA"].read_text() == made["schema"](), "run python docs/make_audit_schema.py"
    text = made["PAGE"].read_text()
    assert made["written"](text) == text, "run python docs/make_audit_schema.py"
    assert json.loads(made["schema"]())["properties"]["schema"]["const"] == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "expected schema 1, got 2"),
        ("schema", True, "expected schema 1, got True"),
        ("schema", None, "expected schema 1, got None"),
        ("suite", "", "suite: String should have at least 1 character"),
        ("suite", "x" * 201, "suite: String should have at most 200"),
        ("model", 3, "model: Input should be a valid string"),
        ("budget.top1", "0.01", "budget.top1: Input should be a valid number"),
        ("budget.top1", 1.5, "budget.top1: Input should be less than or equal to 1"),
        ("original_sha256", "../../etc/passwd", "original_sha256: String should match pattern"),
        ("images.test", 0, "images.test: Input should be greater than or equal to 1"),
        ("interpreters", {}, "interpreters: Dictionary should have at least 1 item"),
        ("interpreters", [], "interpreters: Input should be a valid dictionary"),
        ("interpreters.gradcam.deceptive_rate", True, "deceptive_rate: Input should be a valid number"),
        ("interpreters.gradcam.ci95", [0.9, 0.1], "lower end is above the upper"),
        ("interpreters.gradcam.ci95", [0.9], "ci95: List should have at least 2"),
        ("interpreters.gradcam.accuracy", "fine", "accuracy: Input should be 'kept', 'lost' or 'not shown'"),
        ("interpreters.gradcam.weights", {"file": "../x.safetensors", "sha256": "0" * 64}, "weights.file: String should match"),
        ("interpreters.gradcam.weights", {"file": "/etc/passwd", "sha256": "0" * 64}, "weights.file: String should match"),
        ("interpreters.gradcam.trials", [{}], "trials.0.attack: Field required"),
        ("interpreters.gradcam.trials", [{"attack": "a", "outcome": "b", "seconds": 1}] * 1001, "at most 1000"),
        ("settings", {"a": {"b": 1}}, "settings.a"),
        ("environment", None, "environment: Input should be"),
        ("repeat", "x" * 5000, "repeat: String should have at most 4000"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_by_name(path, value, message):
    tree = record()
    *parents, last = path.split(".")
    node = tree
    for key in parents:
        node = node[key]
    node[last] = value
    with pytest.raises(AdvfoolError, match="somewhere") as error:
        as_record(tree, "somewhere")
    assert message in str(error.value)


@pytest.mark.parametrize("key", ["suite", "threat_model", "budget", "data_sha256", "environment", "repeat", "seed"])
def test_what_a_record_has_to_say_is_missed(key):
    tree = record()
    del tree[key]
    with pytest.raises(AdvfoolError, match=f"{key}: Field required"):
        as_record(tree, "somewhere")


def test_large_damaged_and_foreign_files_are_refused(tmp_path):
    folder = audit_folder(tmp_path / "a")
    for content, message in [
        (b"[" * 100_000, "is damaged"),
        (b'{"schema": NaN}', "not finite"),
        (b" " * (8 * 2**20 + 1), "too large"),
        (b"{}", "expected schema 1, got None"),
        (b"\xff\xfe", "is damaged"),
    ]:
        (folder / "audit.json").write_bytes(content)
        with pytest.raises(AdvfoolError, match=message):
            read_record(folder)
    (folder / "audit.json").unlink()
    (folder / "audit.json").symlink_to("/etc/hostname")
    with pytest.raises(AdvfoolError, match="leads out of the folder"):
        read_record(folder)


def test_the_card_says_it_all_and_cites():
    tree = record({"gradcam": broken(), "noise": unattacked("unfaithful", faithful=0.1)})
    text = card(tree)
    assert "gradcam can be made to lie" in text
    assert "noise explains nothing" in text
    assert "python -m advfool.audit 'interpreters=[gradcam]'" in text
    assert tree["threat_model"] in text
    assert text.count("@") == 2
    assert "heo2019fooling" in text
    assert "version 0.1.0" in bibtex(tree)


def test_strangers_texts_stay_text_on_the_card():
    tree = record({"a|b](http://x.yz)<script>": broken(verdict="broken by `x`", attack="`x`")})
    tree |= {"model": "[click](http://x.yz)", "repeat": "echo\n```\n# heading", "suite": "AM}, evil = {"}
    text = card(tree)
    assert "<script" not in text
    assert "[click](" not in text
    assert "b](http" not in text
    assert "````console\necho\n```\n# heading\n````" in text
    assert "evil =" not in text.split("bibtex")[1]
