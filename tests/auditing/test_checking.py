"""The checker of entries: what contradicts itself, the rules or the files is named."""

import pytest

from advfool.auditing.checking import problems
from tests.helpers.audits import SHA, audit_folder, broken, record, trial, unattacked


def found(folder, **changes):
    tree = record({"gradcam": broken(**changes)})
    return " / ".join(problems(audit_folder(folder, tree)))


def test_an_entry_that_agrees_with_itself_passes(tmp_path):
    tree = record(
        {
            "gradcam": broken(transfer={"noise": 0.0}),
            "noise": unattacked("unfaithful", faithful=0.1),
            "flat": unattacked("degenerate", degenerate=1.0, faithful=0.0),
            "saliency": unattacked("no gradient", zero_gradient=1.0),
            "firm": unattacked("not broken by AM-1") | {"trials": [trial(selection=None)]},
        }
    )
    assert problems(audit_folder(tmp_path / "a", tree)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "not broken by AM-1"}, "'broken by location' follows from the numbers"),
        ({"verdict": "broken by topk"}, "'broken by location' follows from the numbers"),
        ({"ci95": [0.4, 0.95]}, "'not broken by AM-1' follows from the numbers"),
        ({"deceptive_rate": 0.99}, r"deceptive_rate 0.99 lies outside of its interval [0.86, 0.94]"),
        ({"top1_drop": 0.02, "top1_drop_ci95": None}, "top1_drop is 0.02, and 0.004 follows from the accuracies"),
        ({"top1_drop_ci95": [0.003, 0.02]}, "the accuracy is not 'kept'"),
        ({"n_test": 12}, "n_test is 12 of 1080 test images"),
        ({"n_deceptive": 4000}, "more images than there are"),
        ({"trials": [trial("topk")]}, "location is not the best of the trials"),
        ({"trials": [trial(), trial("topk", rate=0.99)]}, "location is not the best of the trials"),
        ({"trials": [trial(drop=0.02)]}, "location is not the best of the trials within the budget"),
        ({"trials": [trial()] * 7}, "7 trials, more than the 6"),
        ({"trials": [trial(), trial("other", rate=0.1)]}, "attacks that are not in the settings: other"),
        ({"fsr": None}, "numbers are missing of the attack location"),
        ({"attack": None}, "numbers of an attack, but no attack"),
        ({"transfer": {"elsewhere": 0.5}}, "transfer to interpreters that were not audited: elsewhere"),
        ({"curve": [{"top1": 0.01, "attack": "topk", "deceptive_rate": 1.0}]}, "the curve at the budget differs"),
        ({"curve": [{"top1": 0.02, "deceptive_rate": 0.0}, {"top1": 0.01, "deceptive_rate": 0.0}]}, "do not ascend"),
        ({"honesty": {"faithful": 0.2, "degenerate": 0, "zero_gradient": 0, "images": 9}}, "'unfaithful' follows"),
    ],
)
def test_contradictions_are_named(changes, message, tmp_path):
    assert message in found(tmp_path / "a", **changes)


def test_the_budget_has_to_fit_the_selection_images_and_the_settings(tmp_path):
    tree = record(budget={"top1": 0.001, "agreement": 0.9})
    text = " / ".join(problems(audit_folder(tmp_path / "a", tree)))
    assert "cannot be read off 360 selection images" in text
    assert "budget.agreement is 0.9, and 0.997 follows" in text
    assert "settings.top1 and budget.top1 differ" in text


def test_weights_have_to_be_there_and_those_of_the_record(tmp_path):
    folder = audit_folder(tmp_path / "a")
    (folder / "gradcam.safetensors").write_bytes(b"other")
    assert "the SHA-256 of gradcam.safetensors is not the one of the record" in problems(folder)[0]
    assert problems(folder, weights=False) != []
    (folder / "gradcam.safetensors").unlink()
    assert "expected a file, found nothing" in problems(folder)[0]
    assert problems(folder, weights=False) == []
    assert "the weights of the attack are not named" in problems(audit_folder(tmp_path / "b", weights=False))[0]


def test_weights_that_could_run_code_or_lie_elsewhere_are_refused(tmp_path):
    for number, name in enumerate(("gradcam.pt", "elsewhere.safetensors")):
        tree = record({"gradcam": broken(weights={"file": name, "sha256": SHA})})
        folder = audit_folder(tmp_path / str(number), tree)
        (folder / "elsewhere.safetensors").symlink_to("/etc/hostname")
        assert ("is no .safetensors file" if name.endswith(".pt") else "leads out of the folder") in problems(folder)[0]
