"""Run folders of strangers are data: nothing in them is executed, and nothing outside of them is read or written."""

import os
from pathlib import Path

import pytest

import advfool
from advfool.commands.run_folder import read_run
from advfool.reporting.paper.networks import USED, open_run
from advfool.reporting.runs import find_runs
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.files import default_cache
from tests.helpers.command import run_here
from tests.helpers.hostile import Canary, run_config, run_folder

SECRET = "the-secret-of-the-environment"


@pytest.fixture
def canary(tmp_path, monkeypatch):
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setenv("MY_SECRET", SECRET)
    return Canary(modules)


def targets(canary) -> dict[str, dict]:
    """Configurations that name something to execute, by what they try."""
    call = {"_target_": "os.system", "command": canary.touch}
    opened = {"_target_": "builtins.open", "file": str(canary.file), "mode": "w"}
    return {
        "a function as the network": run_config(model=call),
        "a function as the data": run_config(data=call),
        "a function as the fooling": run_config(fooling=call),
        "a function as the interpreter": run_config(interp=call),
        "a function in an argument": run_config(model__input=call),
        "a function deep in an argument": run_config(fooling__box=[{"a": [call]}]),
        "a function in positional arguments": run_config(model___args_=[opened]),
        "a function behind a partial": run_config(model={"_target_": "os.system", "_partial_": True}),
        "a partial of a class of advfool": run_config(model___partial_=True),
        "a function that advfool imports": run_config(
            model={"_target_": "advfool.utilities.files.shutil.rmtree", "path": str(canary.file)}
        ),
        "a module that torch imports": run_config(
            model={"_target_": "torch.optim.lr_scheduler.torch.load", "f": str(canary.file)}
        ),
        "a helper of advfool": run_config(
            model={"_target_": "advfool.models.weights.read_weights", "path": "/etc/passwd"}
        ),
        "a helper of torch.optim": run_config(model={"_target_": "torch.optim.swa_utils.update_bn"}),
        "a class below an allowed one": run_config(model___target_="advfool.models.Tiny.create"),
        "a module of its own": run_config(model={"_target_": f"{canary.module}.Net"}),
        "a module in an LRP rule": run_config(
            interp={"_target_": "advfool.interpreters.LRP", "name": "lrp", "rules": {f"{canary.module}.Net": "pass"}}
        ),
        "a module in a pair of LRP rules": run_config(
            interp={
                "_target_": "advfool.interpreters.LRP",
                "composite": {
                    "_target_": "advfool.interpreters.lrp.Composite",
                    "rules": [[f"{canary.module}.Net", "pass"]],
                },
            }
        ),
        "a class of another kind": run_config(model__input={"_target_": "advfool.data.DigitsModule"}),
        "a target that is no text": run_config(model___target_=["os", "system"]),
        "hydra's own key": run_config(model___args_=[canary.touch]),
        "instantiate inside instantiate": run_config(
            model={"_target_": "hydra.utils.instantiate", "config": call, "_recursive_": False}
        ),
    }


KINDS = range(21)


@pytest.mark.parametrize("number", KINDS)
def test_what_a_configuration_names_is_not_executed(canary, tmp_path, number):
    kind, config = list(targets(canary).items())[number]
    folder = run_folder(tmp_path / "run", config)
    done = evaluate(tmp_path, f"run={folder}")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), (kind, done.stderr)
    assert f"error: run={folder}: " in done.stderr, kind
    assert canary.alive, kind
    if config["model"] != run_config()["model"]:
        with pytest.raises(AdvfoolError, match="load_fooled: model"):
            advfool.load_fooled(folder)
    assert canary.alive, kind


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model__name", "${oc.env:MY_SECRET}"),
        ("target", "${oc.env:MY_SECRET}"),
        ("fooling__mask", "${hydra:runtime.cwd}"),
        ("interp__name", "x${interpreters:[gradcam]}"),
        ("seed", "${oc.decode:1}"),
        ("data__pair", ["${model.name}", "b"]),
        ("model__input__mean", {"${oc.env:MY_SECRET}": 1}),
    ],
)
def test_references_in_a_configuration_are_not_resolved(tmp_path, canary, key, value):
    folder = run_folder(tmp_path / "run", run_config(**{key: value}))
    done = evaluate(tmp_path, f"run={folder}")
    assert done.returncode == 1
    assert f"error: run={folder}: " in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert not any(SECRET in path.read_text() for path in tmp_path.rglob("*.yaml"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", {"_target_": "advfool.data.FolderModule", "root": "{outside}"}),
        ("data", {"_target_": "advfool.data.FolderModule", "root": "../outside"}),
        ("data", {"_target_": "advfool.data.FolderModule", "root": "{run}/../outside"}),
        ("data", {"_target_": "advfool.data.FolderModule", "root": "{run}/link"}),
        ("data", {"_target_": "advfool.data.FolderModule", "root": "{run}/photos"}),
        ("data", {"_target_": "advfool.data.Imagenette", "root": "{outside}"}),
        ("model__weights", "{outside}/weights.safetensors"),
        ("model__weights", "~/weights.pt"),
        ("model__weights", "https://example.org/weights.pt"),
        ("fooling__mask", "{outside}/mask.png"),
    ],
)
def test_paths_in_a_configuration_do_not_lead_out_of_the_folder(tmp_path, key, value):
    (tmp_path / "outside").mkdir()
    run = tmp_path / "run"

    def filled(node):
        if isinstance(node, dict):
            return {name: filled(child) for name, child in node.items()}
        return node.format(outside=tmp_path / "outside", run=run)

    folder = run_folder(run, run_config(**{key: filled(value)}))
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "photos").mkdir()
    (folder / "photos" / "cat").symlink_to(tmp_path / "outside")
    done = evaluate(tmp_path, f"run={folder}")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "outside of the run's folder" in done.stderr or "leads out of the folder" in done.stderr


def test_a_cache_in_a_configuration_is_not_used(tmp_path):
    stranger = tmp_path / "of a stranger"
    config = run_config(cache=str(stranger), data__cache=str(stranger))
    done = evaluate(tmp_path, f"run={run_folder(tmp_path / 'run', config)}")
    assert done.returncode == 0, done.stderr
    assert not stranger.exists()


def test_a_path_that_the_command_names_as_well_is_read(tmp_path, photo_folder):
    data = {"_target_": "advfool.data.FolderModule", "root": str(photo_folder), "workers": 0}
    folder = run_folder(tmp_path / "run", run_config(data=data))
    done = evaluate(tmp_path, f"run={folder}")
    assert f"if they are the right ones, add ++data.root={photo_folder}" in done.stderr
    done = evaluate(tmp_path, f"run={folder}", f"++data.root={photo_folder}")
    assert "outside of the run's folder" not in done.stderr  # the network has ten classes, the photos two
    assert "do not fit" in done.stderr or "classes" in done.stderr


def test_a_class_of_ones_own_needs_to_be_allowed(tmp_path, canary):
    config = run_config(model___target_=f"{canary.module}.Net")
    folder = run_folder(tmp_path / "run", config)
    assert f"allow=[{canary.module}]" in evaluate(tmp_path, f"run={folder}").stderr
    with pytest.raises(AdvfoolError, match="not built from a run's folder"):
        advfool.load_fooled(folder)
    assert canary.alive
    assert "Traceback" not in evaluate(tmp_path, f"run={folder}", "allow=[other.module]").stderr
    assert canary.alive
    for module in (canary.module, [canary.module]):
        with pytest.raises(AdvfoolError, match="describes no network, but a Net"):
            advfool.load_fooled(folder, allow=module)
        assert not canary.alive


@pytest.mark.parametrize("name", ["system", "os", "os.system"])
def test_what_an_allowed_module_imports_is_not_allowed(tmp_path, canary, name):
    config = run_config(model={"_target_": f"{canary.module}.{name}", "command": f"{canary.touch}2"})
    folder = run_folder(tmp_path / "run", config)
    with pytest.raises(AdvfoolError):
        advfool.load_fooled(folder, allow=canary.module)
    assert not Path(f"{canary.file}2").exists()


FILES = {
    "aliases that grow": "a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nmodel: *c\n",
    "a tag": "model: !!python/object/apply:os.system ['touch {canary}']\n",
    "deep brackets": "model: " + "[" * 5000,
    "deep blocks": "".join("  " * level + "a:\n" for level in range(200)),
    "a large file": "model: '" + "x" * 3_000_000 + "'\n",
    "a long number": "seed: " + "9" * 10_000 + "\n",
    "many entries": "model: [" + "1," * 400_000 + "]\n",
    "a list": "- model\n",
    "a text": "model\n",
    "nothing": "",
    "half of it": "model:\n  name: [",
    "other bytes": "model: \udcff\n",
}


@pytest.mark.parametrize("kind", FILES)
def test_configurations_that_grow_or_are_damaged_are_refused(tmp_path, canary, kind):
    folder = run_folder(tmp_path / "run")
    text = FILES[kind].replace("{canary}", str(canary.file))
    (folder / "config.yaml").write_bytes(text.encode(errors="surrogateescape"))
    for read in (read_run, advfool.load_fooled):
        with pytest.raises(AdvfoolError, match=r"config\.yaml"):
            read(folder)
    assert canary.alive


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "manipulated.safetensors"])
@pytest.mark.parametrize("kind", ["link", "dangling", "circle", "pipe", "folder"])
def test_files_that_are_no_files_are_refused(tmp_path, name, kind):
    folder = run_folder(tmp_path / "run")
    path, outside = folder / name, tmp_path / "outside"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"link": outside, "dangling": tmp_path / "nothing", "circle": name}[kind])
    for read in (read_run, *([] if name == "metrics.json" else [advfool.load_fooled])):
        with pytest.raises(AdvfoolError):
            read(folder)


def test_a_figure_of_a_sweep_builds_nothing_from_a_strangers_run(tmp_path, canary):
    for number, config in enumerate([*targets(canary).values(), run_config(imports=[canary.module])]):
        config |= {"imports": config.get("imports", []), "cache": None}
        if "cache" in config["data"]:
            config["data"]["cache"] = None
        run_folder(tmp_path / "sweep" / str(number), config)
    runs = find_runs(tmp_path / "sweep")
    assert len(runs) == 22
    for run in runs:
        with pytest.raises(AdvfoolError):
            run.described(*USED)
    with pytest.raises(AdvfoolError, match="imports the module"):
        open_run(next(run for run in runs if run.config["imports"]))
    assert canary.alive


def test_messages_do_not_command_the_terminal(tmp_path):
    config = run_config(model___target_="x\x1b]0;title\x07\x1b[2J\u202ey")
    done = evaluate(tmp_path, f"run={run_folder(tmp_path / 'run', config)}")
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr)


def evaluate(tmp_path, *overrides):
    cache = f"cache={default_cache().expanduser()}"
    options = ["pictures=0", "evaluate_with=[]", "aopc.images=0", "callbacks.progress=null", cache]
    return run_here("advfool.evaluate", [f"hydra.run.dir={tmp_path / 'evaluation'}", *options, *overrides])
