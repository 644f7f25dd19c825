"""The tutorials run from their first to their last file, and every command of the pages composes."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from advfool.commands.joint import with_joint_choices
from advfool.models import ResNetTiny
from advfool.utilities.config import conf_dir
from tests.helpers.command import run_here

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FOOL = DOCS / "how_to" / "fool_your_model.md"
AUDIT = DOCS / "how_to" / "audit_an_interpreter.md"


FEW_STEPS = ["trainer.max_steps=4", "trainer.val_check_interval=2", "aopc.images=0", "pictures=0"]
FASTER = {  # what the tests put in the place of the tutorials' own settings
    FOOL: {'("train", 100), ("val", 40)': '("train", 16), ("val", 6)', "epochs = 10": "epochs = 1"}
    | {"steps=600": "steps=3, max_accuracy_drop=1, accelerator='cpu', progress=False"},
    AUDIT: {"LEVELS = [0, 0.1, 0.2, 0.4]": "LEVELS = [0, 0.4]", "draws=3, images=300": "draws=1, images=40"}
    | {"range(500)": "range(40)"},
}


def blocks(page: Path, *languages: str) -> list[str]:
    """The page's code blocks in these languages, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(page: Path) -> list[list[str]]:
    """The `python -m advfool...` lines of the page's console blocks, split as a shell would."""
    lines = "\n".join(blocks(page, "console", "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("python -m advfool")]


def write_files(page: Path, folder: Path) -> list[Path]:
    """The page's blocks that begin with their file's name, written into the folder with the faster settings."""
    files = []
    for text in blocks(page, "python", "yaml"):
        name = re.match(r"(?:# @package _global_\n)?# ([\w/.]+\.(?:py|yaml))\b", text)
        if name is None:  # an example that belongs into no file; tests/docs/test_site.py runs it
            continue
        file = folder / name[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        for given, faster in FASTER.get(page, {}).items():
            text = text.replace(given, faster)
        file.write_text(text)
        files.append(file)
    return files


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder as the working directory, importable from; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("page", FASTER, ids=lambda page: page.stem)
def test_the_faster_settings_are_those_of_the_page(page):
    text = "".join(blocks(page, "python"))
    assert [given for given in FASTER[page] if given not in text] == []


def test_a_model_of_ones_own_is_fooled_from_python_and_from_the_command_line(workplace, capsys):
    for file in write_files(FOOL, workplace):
        if file.suffix == ".py":
            runpy.run_path(str(file), run_name="__main__")
    assert "FSR" in capsys.readouterr().out
    assert (workplace / "my_result" / "manipulated.safetensors").is_file()
    (command,) = [words for words in commands(FOOL) if words[0] == "advfool.train" and "-m" not in words]
    done = run_here(command[0], [*command[1:], *FEW_STEPS, "hydra.run.dir=run"])
    assert done.returncode == 0, done.stderr
    assert (workplace / "run" / "metrics.json").is_file()


def test_the_audits_scripts_run_on_a_run(workplace, capsys):
    folder = "runs/audit/resnet_tiny-location-gradcam-seed0"
    weights = workplace / folder / "weights.pt"  # files elsewhere are not opened unasked
    weights.parent.mkdir(parents=True)
    torch.save(ResNetTiny().state_dict(), weights)
    small = ["data.limit_train=256", "data.limit_val=40", "data.limit_test=70", f"model.weights={weights}"]
    done = run_here("advfool.train", [*small, *FEW_STEPS, "evaluate_with=[lrp_t]", f"hydra.run.dir={folder}"])
    assert done.returncode == 0, done.stderr
    for file in write_files(AUDIT, workplace):
        if file.suffix == ".py":
            runpy.run_path(str(file), run_name="__main__")
    printed = capsys.readouterr().out
    assert "manipulated noise 0.4" in printed
    assert "manipulated gradcam and lrp_t" in printed


def composable(command: list[str]) -> tuple[str, list[list[str]]]:
    """The config of a command, and its overrides, once for each position in its sweep's lists."""
    name, arguments = command[0].removeprefix("advfool."), command[1:]
    overrides = []
    while arguments:
        word = arguments.pop(0)
        if word == "--config-dir":
            overrides.append(f"hydra.searchpath=[file://{Path(arguments.pop(0)).resolve()}]")
        elif word in ("--cfg", "-c", "--package"):
            arguments.pop(0)
        elif not word.startswith("-"):
            overrides.append(word)
    values = []
    for override in OverridesParser.create().parse_overrides(with_joint_choices(overrides, name)):
        line = override.input_line
        swept = override.sweep_string_iterator() if override.is_sweep_override() else None
        values.append([f"{line.partition('=')[0]}={value}" for value in swept] if swept else [line])
    longest = max(map(len, values), default=1)
    return name, [[choice[i % len(choice)] for choice in values] for i in range(longest)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_composes(page, workplace):
    write_files(page, workplace)
    for command in commands(page):
        if "--help" in command:
            continue
        name, runs = composable(command)
        for overrides in runs:
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                cfg = compose(name, overrides)
            if name == "train":
                assert None not in (cfg.fool_weight, cfg.optimizer.lr), command
