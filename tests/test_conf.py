"""Every YAML fits its target's signature, and every combination composes."""

import inspect
import itertools

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advfool.utilities.config import about_a_value, build, conf_dir, leaves, plain, read_config

SPECIAL = {"_target_", "_partial_", "_convert_"}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def nodes_with_target(node, path=""):
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            child = node._get_node(key)
            if isinstance(child, DictConfig):
                yield from nodes_with_target(child, f"{path}.{key}")


def check_combination(model, interp, fooling, data):
    root = ["data.root=photos"] if data == "imagefolder" else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"model={model}", f"interp={interp}", f"fooling={fooling}", f"data={data}", *root])
    assert cfg.interp.name == interp
    assert cfg.fooling.name == fooling
    for path, node in nodes_with_target(cfg):
        parameters = inspect.signature(get_object(node._target_)).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        unknown = set(node) - SPECIAL - set(parameters)
        assert not unknown, f"{path}: {node._target_} does not take {unknown}"


PAIRS = list(itertools.product(choices("model"), choices("interp")))


OTHERS = itertools.cycle(itertools.product(choices("fooling"), choices("data")))


@pytest.mark.parametrize(("model", "interp", "fooling", "data"), [(*p, *o) for p, o in zip(PAIRS, OTHERS)])  # noqa: B905
def test_every_model_and_interpreter_composes_and_binds(model, interp, fooling, data):
    check_combination(model, interp, fooling, data)


@pytest.mark.slow
@pytest.mark.parametrize("data", choices("data"))
@pytest.mark.parametrize("model", choices("model"))
def test_every_combination_composes_and_binds(model, data):
    for interp, fooling in itertools.product(choices("interp"), choices("fooling")):
        check_combination(model, interp, fooling, data)


@pytest.mark.parametrize("interp", choices("interp"))
def test_every_interpreter_is_built_with_the_model_it_is_for(interp):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["model=resnet_tiny", f"interp={interp}"])
    built = build(cfg.interp)
    assert built.name == interp
    expected = cfg.model.target_layer if interp.endswith("_t") or "cam" in interp else None
    if interp == "aggregate":
        assert [each.layer for each in built.interpreters] == [cfg.model.target_layer] * 3
    else:
        assert built.layer == expected


@pytest.mark.parametrize(
    "group", ["trainer", "logger", "callbacks", "preserve", "hparams", "experiment", "launcher", "scale", "attack"]
)
def test_every_other_choice_composes(group):
    for choice in choices(group):
        extra = ["model=vgg19"] if choice == "paper" else []
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("train", [f"{group}={choice}", *extra], return_hydra_config=True)
        assert cfg.fool_weight is not None
        assert cfg.optimizer.lr is not None


def test_an_imagenet_model_selects_imagenet_and_the_command_line_wins():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        chosen = compose("train", ["model=vgg19"])
        explicit = compose("train", ["model=vgg19", "data=imagenette", "preserve=distillation"])
    assert chosen.data._target_ == "advfool.data.Imagenet"
    assert chosen.preserve.name == "cross_entropy"
    assert (chosen.optimizer.lr, chosen.fool_weight) == (1e-6, 1)
    assert explicit.data._target_ == "advfool.data.Imagenette"
    assert explicit.preserve.name == "distillation"


def test_experiments_say_where_they_come_from_and_what_they_cost():
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        text = path.read_text()
        assert "Command: " in text, path
        assert "Cost: " in text, path


def test_every_yaml_parses_and_opens_with_a_comment():
    for path in conf_dir().rglob("*.yaml"):
        OmegaConf.load(path)
        if "help" not in path.parts:
            assert path.read_text().startswith("#"), path


def test_several_interpreters_are_named_at_once_and_stay_apart():
    names = ["gradcam", "lrp_t", "simplegrad_t", "lrp"]
    for config in ("train", "evaluate"):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose(config, ["evaluate_with=[gradcam,lrp_t,simplegrad_t,{lrp:{epsilon:0.5}}]"])
        built = {name: build(node) for name, node in cfg.interpreters.items()}
        assert list(built) == [interp.name for interp in built.values()] == names
        assert "0.5" in repr(built["lrp"])
        assert len({repr(interp) for interp in built.values()}) == 4


@pytest.mark.parametrize("interp", choices("interp"))
def test_every_interpreter_can_be_evaluated_with(interp):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"evaluate_with=[{interp}]"])
        trained = compose("train", [f"interp={interp}"])
    assert list(cfg.interpreters) == [interp]
    assert plain(cfg.interpreters[interp]) == plain(trained.interp)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gradcam", "evaluate_with must be a list of names"),
        ("[gradcamm]", "There is no interpreter 'gradcamm'. Close to it: gradcam, "),
        ("[gradcam,gradcam]", "expected different names or {name: settings}, got 'gradcam'"),
        ("[{lrp:{epsilonn:1}}]", "evaluate_with: lrp has no setting epsilonn. It has: layer, "),
        ("[3]", "expected different names or {name: settings}, got 3"),
    ],
)
def test_what_cannot_be_evaluated_with_is_said(given, message):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"evaluate_with={given}"])
    with pytest.raises(OmegaConfBaseException) as error:
        _ = cfg.interpreters
    assert message in str(about_a_value(error.value))


def tuned() -> list[str]:
    return [path.stem for path in sorted((conf_dir() / "tuned" / "digits").glob("*.yaml"))]


def tuned_settings(name: str) -> dict[str, object]:
    """The settings in a file of conf/tuned, with those of the files that it is based on."""
    node = read_config(conf_dir() / "tuned" / f"{name}.yaml")
    based_on = [tuned_settings(base) for base in node.pop("defaults", [])]
    return {path: value for found in (*based_on, dict(leaves(plain(node)))) for path, value in found.items() if path}


@pytest.mark.parametrize("name", tuned())
def test_tuned_settings_are_of_what_exists_and_are_picked_up(name):
    parts = name.split("-")
    groups = ("fooling",) if len(parts) == 1 else ("model", "fooling", "interp")
    chosen = dict(zip(groups, parts, strict=True))
    for group, choice in chosen.items():
        assert choice in choices(group)
    if len(parts) == 1:  # of every run of a fooling that has no file of its own
        chosen |= {"model": "resnet_tiny", "interp": "ig"}
    settings, overrides = tuned_settings(f"digits/{name}"), [f"{group}={choice}" for group, choice in chosen.items()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = compose("train", overrides)
        explicit = compose("train", [*overrides, *(f"++{path}=0.125" for path in settings)])
    assert settings
    for path, value in settings.items():
        assert OmegaConf.select(found, path) == value, path
        assert OmegaConf.select(explicit, path) == 0.125, path  # the command line wins


def test_all_published_hyperparameters_are_those_of_table_4():
    table = {  # (lr, lambda) for VGG19, ResNet50, DenseNet121
        ("location", "lrp_t"): [(1e-6, 1), (1e-6, 4), (2e-6, 2)],
        ("location", "gradcam"): [(1e-6, 1), (2e-6, 2), (2e-6, 2)],
        ("topk", "lrp_t"): [(5e-7, 1), (4e-7, 1.5), (1e-6, 1)],
        ("topk", "gradcam"): [(3e-7, 0.4), (3e-7, 4), (3e-6, 6)],
        ("center_mass", "lrp_t"): [(2e-6, 0.25), (6e-7, 0.5), (5e-7, 0.25)],
        ("center_mass", "gradcam"): [(1e-6, 0.25), (1e-7, 1), (2e-6, 0.25)],
        ("active", "lrp_t"): [(2e-6, 2), (3e-6, 2), (4e-6, 15)],
        ("active", "gradcam"): [(2e-6, 2), (1e-6, 2), (6e-6, 15)],
    }
    for (fooling, interp), row in table.items():
        for model, expected in zip(("vgg19", "resnet50", "densenet121"), row, strict=True):
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                cfg = compose("train", [f"model={model}", f"fooling={fooling}", f"interp={interp}"])
            assert (cfg.optimizer.lr, cfg.fool_weight) == expected, (fooling, interp, model)
