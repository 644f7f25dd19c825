"""What a run's configuration may name."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from advfool.utilities.config import conf_dir
from advfool.utilities.errors import AdvfoolError
from advfool.utilities.trust import ALLOWED, PATHS, Trust, leaf_texts, named_in
from tests.helpers.hostile import run_config


@pytest.mark.parametrize("module", ALLOWED)
def test_what_is_allowed_is_a_class_of_the_library_that_its_name_says(module):
    for name in ALLOWED[module]:
        found = getattr(import_module(module), name)
        assert inspect.isclass(found), name
        assert found.__module__.startswith(module.split(".")[0]), name


def test_every_class_of_a_run_that_advfool_configures_is_allowed():
    """Classes that only a sweep or Hydra itself builds are in no run's configuration."""
    named = {
        text.rpartition(".")
        for path in conf_dir().rglob("*.yaml")
        for node in mappings(yaml.safe_load(path.read_text()))
        if isinstance(text := node.get("_target_"), str)
    }
    missing = {f"{module}.{name}" for module, _, name in named if name not in ALLOWED.get(module, ())}
    assert missing <= {
        "advfool.commands.guard.Guard",
        "advfool.commands.validation.Validate",
        "advfool.commands.sweep.Begin",
        "optuna.samplers.TPESampler",
    }


def test_every_class_that_advfool_exports_for_configurations_is_allowed():
    for room in ("data", "foolings", "interpreters", "models"):
        module = import_module(f"advfool.{room}")
        for name in module.__all__:
            kind = getattr(module, name)
            base = {"data": "DataModule", "foolings": "Fooling", "interpreters": "Interpreter"}.get(
                room, "NetworkSource"
            )
            if inspect.isclass(kind) and issubclass(kind, getattr(module, base)) and not inspect.isabstract(kind):
                assert name in (*ALLOWED[module.__name__], base, "WrappedModule", "CompositeFooling", "PassiveFooling")


def test_every_place_of_a_constructor_is_checked():
    """Parameters that are paths, or are marked as places, of the classes that a run's configuration can build."""
    for module in (name for name in ALLOWED if name.startswith("advfool.")):
        for name in ALLOWED[module]:
            for parameter in inspect.signature(getattr(import_module(module), name)).parameters.values():
                hint = str(parameter.annotation)
                if ("Role.PLACE" in hint and "int" not in hint) or "Path" in hint:
                    assert parameter.name in PATHS, f"{name}.{parameter.name}"


def test_what_the_user_names_as_well_is_trusted(tmp_path):
    model = {"_target_": "my_source.Net", "weights": "my.pt", "rules": {"my_source.Layer": "pass"}}
    with pytest.raises(AdvfoolError, match=r"allow=\[my_source\]"):
        Trust().check({"model": model}, "x")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(yaml.safe_dump(model))
    (tmp_path / "broken.yaml").write_text("{")
    Trust(named=named_in([tmp_path])).check({"model": model}, "x")
    Trust(named=frozenset(leaf_texts([model]))).check({"model": model}, "x")


def test_what_the_user_names_of_another_kind_is_not():
    named = frozenset({"pytorch_lightning.Trainer", "advfool.data.DigitsModule"})
    for target in named:
        with pytest.raises(AdvfoolError, match="expected one of EfficientNetLite0"):
            Trust(named=named).check({"model": run_config(model___target_=target)["model"]}, "x")


def test_the_picture_of_a_target_is_a_path_unless_it_is_a_name_or_numbers():
    def node(picture):
        return {"fooling": {"_target_": "advfool.foolings.Target", "picture": picture}}

    for known in ("cross", "another_class", [[0, 1], [1, 0]], "/runs/a/mine.png"):
        Trust((Path("/runs/a"),)).check(node(known), "x")
    for elsewhere in ("/etc/passwd", "mine.png", "../mine.png", ["../mine.png"]):
        with pytest.raises(AdvfoolError, match="outside of the run's folder"):
            Trust((Path("/runs/a"),)).check(node(elsewhere), "x")


@pytest.mark.parametrize("allow", ["my-module", "a..b", ["os;"], [""]])
def test_allow_is_a_list_of_modules(allow):
    with pytest.raises(AdvfoolError, match="allow: expected names of modules"):
        Trust(allow=allow)


def test_names_that_look_like_paths_are_no_paths():
    """Class names of data sets may begin with a slash, and weights may have names."""
    config = run_config(data__pair=["/m/01", "../b"], model__weights="IMAGENET1K_V1", fooling__mask="corner")
    config |= {"cache": "/cache/here"}
    config["data"]["cache"] = "/cache"
    Trust((Path("/runs/a"), Path("/cache"))).check(config, "x")


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "~/x.pt", "../x.pt", "x.pt", "s3://b/x", "C:\\x.pt", "\\\\host\\x", "a/b"]
)
def test_weights_elsewhere_are_refused(value):
    with pytest.raises(AdvfoolError, match="add original="):
        Trust((Path("/runs/a"),)).check(run_config(model__weights=value, cache=None, data__cache=None), "x")


@pytest.mark.parametrize("key", ["root", "folder", "dirpath", "cache"])
def test_a_folder_in_the_current_one_is_elsewhere_too(key):
    with pytest.raises(AdvfoolError, match="outside of the run's folder"):
        Trust((Path("/runs/a"),)).check({"data": {"_target_": "advfool.data.FolderModule", key: "photos"}}, "x")


def test_paths_of_a_class_of_ones_own_are_checked_wherever_they_stand():
    node = {"_target_": "my.Data", "anything": ["/etc"]}
    with pytest.raises(AdvfoolError, match="outside of the run's folder"):
        Trust(named=frozenset({"my.Data"})).check({"data": node}, "x")
    Trust(named=frozenset({"my.Data"})).check({"data": node | {"anything": ["a/b", "c"]}}, "x")


def mappings(tree):
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    for child in tree if isinstance(tree, list) else ():
        yield from mappings(child)
