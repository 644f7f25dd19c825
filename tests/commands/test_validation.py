"""Every key of every command refuses senseless values with one line; combinations and overrides likewise."""

from collections.abc import Iterator
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from advfool.commands.validation import check_config
from advfool.utilities.config import conf_dir, leaves
from advfool.utilities.errors import AdvfoolError
from tests.helpers.command import run_here

NOWHERE = "data.root=/nowhere"
CONFIGS = [
    ("train", ()),
    *(("train", (f"fooling={name}",)) for name in ("active", "center_mass", "target", "topk")),
    *(("train", (f"interp={name}",)) for name in ("lrp", "ig", "smoothgrad_t", "simplegrad", "guided_backprop")),
    *(("train", (f"interp={name}",)) for name in ("captum", "zennit", "gradcam_pp")),
    ("train", ("attack=free",)),
    ("train", ("data=imagefolder", NOWHERE)),
    ("train", ("data=imagenette", NOWHERE)),
    ("train", ("logger=tensorboard",)),
    ("train", ("model=resnet_tiny_robust",)),
    ("train", ("scale=digits",)),
    ("evaluate", ()),
    ("pretrain", ()),
    ("gallery", ()),
    ("report", ("runs=/nowhere",)),
    ("leaderboard", ()),
]
SENSELESS = ["nan", "inf", "-inf", "1e400", "[[1]]", "[1,abc,2.5]", "{a: {b: 1}}"]  # for any key
OTHERS = ["[]", "{}", "''", "-1", "true", "0.5", "abc", "null", str(2**70)]  # for some keys
NULLABLE = {
    "seed",
    "train_target_top",
    "fsr_images",
    "trainer.gradient_clip_val",
    "model.pretrain.adversarial.epsilon",
    "scale.measure.pgd.images",
}
LISTS = {"evaluate_with", "also", "imports", "allow", "aopc.interpreters", "audits", "check"}  # may be empty
MAPPINGS = {"interp.arguments", "interp.call", "interp.rules", "interp.attributor_arguments", "data.class_map"}
EMPTY_TEXT = {"logger.csv.name", "logger.csv.version"}
NEGATIVE = {"fooling.inside", "interp.baseline", "trainer.num_sanity_val_steps"}
ANYTHING = {"scale.measure.plain.pretrain.adversarial"}  # settings of a model, which is checked when it is built


@cache
def composed(command: str, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(command, list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = "runs"
    HydraConfig.instance().set_config(cfg)
    task = cfg.copy()
    OmegaConf.set_struct(task, False)
    del task["hydra"]
    return task


@pytest.fixture(autouse=True)
def _without_hydra():
    yield
    HydraConfig.instance().cfg = None


def keys_of_config(command: str, overrides: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    tree = OmegaConf.to_container(composed(command, overrides), resolve=False)
    for key, default in leaves(tree):
        if not key.endswith(("_target_", "_partial_")) and not key.startswith(("interpreters", "others")):
            yield key, default


def refusal(command: str, overrides: tuple[str, ...], key: str, value: str) -> str | None:
    """The message that a value for a key is refused with; None where it is accepted."""
    base = composed(command, overrides)
    cfg = base.copy()
    OmegaConf.update(cfg, key, OverridesParser.create().parse_override(f"key={value}").value(), merge=False)
    try:
        check_config(cfg, command)
    except AdvfoolError as error:
        return str(error)
    return None


def may_be(key: str, default: object, value: str) -> bool:
    """Whether a value may make sense for a key, from the kind of its default; an interpolation may be anything."""
    open_kind = default is None or (isinstance(default, str) and "${" in default)
    number = isinstance(default, int | float) and not isinstance(default, bool)
    return {
        "[]": key in LISTS,
        "{}": key in MAPPINGS,
        "''": key in EMPTY_TEXT,
        "-1": key in NEGATIVE,
        "true": isinstance(default, bool) or open_kind or isinstance(default, str),
        "0.5": number or open_kind,
        "abc": isinstance(default, str) or open_kind or key in ("allow", "audits", "check"),
        "null": not isinstance(default, bool | int | float) or key in NULLABLE,
        str(2**70): number or open_kind,
    }[value]


def setup_hydra(command: str, overrides: tuple[str, ...]) -> None:
    composed.cache_clear()
    composed(command, overrides)


@pytest.mark.parametrize(("command", "overrides"), CONFIGS, ids=lambda value: "-".join(value) if value else None)
def test_no_key_takes_a_senseless_value(command, overrides, request):
    """Each key is given a quarter of the values, and with --all every one."""
    setup_hydra(command, overrides)
    share = 1 if request.config.getoption("--all") else 4
    for key, default in keys_of_config(command, overrides):
        if key in ANYTHING or (overrides and key.split(".")[0] not in " ".join(overrides) and command == "train"):
            continue  # is seen without these overrides
        for value in [*SENSELESS, *OTHERS][sum(map(ord, key)) % share :: share]:
            message = refusal(command, overrides, key, value)
            if message is None:
                mapping = value.startswith("{") and key in MAPPINGS
                assert value in OTHERS or mapping, f"{key}={value} is accepted"
                assert mapping or may_be(key, default, value), f"{key}={value} is accepted"
            else:
                assert key in message, message
                assert "\n" not in message


@pytest.mark.parametrize(("command", "overrides"), CONFIGS, ids=lambda value: "-".join(value) if value else None)
def test_every_default_is_accepted(command, overrides):
    setup_hydra(command, overrides)
    check_config(composed(command, overrides).copy(), command)


def message_of(tmp_path, monkeypatch, *arguments, module="advfool.train") -> str:
    """What a command says that cannot start, in one line; it leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    done = run_here(module, list(arguments))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "+" not in done.stderr.partition("got ")[0]
    assert not list(tmp_path.iterdir())
    return done.stderr


@pytest.mark.parametrize(
    "override", ["foo", "=", "=3", "a=b=c", "a.[", "seed=[1", "seed={a", "seed='x", "é=1", "seed=1\nfoo", "seed=${"]
)
def test_overrides_that_cannot_be_read(tmp_path, monkeypatch, override):
    assert "is not KEY=VALUE" in message_of(tmp_path, monkeypatch, override)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seeed=1"], "There is no key 'seeed'. Close to it: seed,"),
        (["+foolng=1"], "There is no key 'foolng'. Close to it: fooling,"),
        (["optimizer.lrr=1"], "There is no key 'optimizer.lrr'. Close to it: optimizer.lr."),
        (["fooling.intervall=1"], "Close to it: fooling.interval,"),
        (["+trainer.max_stepss=4"], "Close to it: trainer.max_steps,"),
        (["model.pretrain.epoch=1"], "Close to it: model.pretrain.epochs,"),
        (["aopc.step=1"], "Close to it: aopc.steps,"),
        (["optimizer.lr.x=1"], "'optimizer.lr' has no keys of its own"),
        (["evaluate_with.lrp.epsilon=1"], "evaluate_with=[gradcam,{lrp: {epsilon: 0.1}}]"),
        (["interpreters.lrp.epsilon=1"], "evaluate_with=[gradcam,{lrp: {epsilon: 0.1}}]"),
        (["evaluate_with=[{lrp: {epsilom: 1}}]"], "Close to epsilom: epsilon."),
        (["evaluate_with=[{lrp: {epsilon: -1}}]"], "evaluate_with: lrp.epsilon must be a number above 0, got -1."),
        (["model=vgg91"], "There is no model 'vgg91'. Close to it: vgg19,"),
        (["trainer=cpuu"], "There is no trainer 'cpuu'. Close to it: cpu,"),
        (["-m", "fooling=location,topkk"], "There is no fooling 'topkk'. Close to it: topk,"),
        (["-m", "seed=0,1", "seeed=1"], "There is no key 'seeed'."),
        (["seed=0,1"], "A sweep over them needs -m"),
        (["fooling=null"], "fooling is missing"),
        (["~interp"], "interp is missing"),
        (["fooling._target_=advfool.foolings.Topk"], "close to it: TopK,"),
        (["fooling._target_=torch.nn.Linear"], "must name a kind of Fooling"),
        (["optimizer._partial_=false"], "optimizer._partial_ must be true"),
        (["--run", "--multirun"], "Only one of --run"),
    ],
)
def test_unknown_keys_and_choices_get_the_nearest_known_one(tmp_path, monkeypatch, arguments, message):
    assert message in message_of(tmp_path, monkeypatch, *arguments)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("evaluate", ["rn=x"], "There is no key 'rn'. Close to it: run,"),
        ("gallery", ["interp=[lrp]"], "There is no key 'interp'. Close to it: interps,"),
        ("report", [], "runs is missing"),
        ("report", ["run=x"], "There is no key 'run'. Close to it: runs,"),
        ("pretrain", ["modl=x"], "There is no key 'modl'. Close to it: model,"),
    ],
)
def test_every_command_says_what_is_wrong(tmp_path, monkeypatch, module, arguments, message):
    assert message in message_of(tmp_path, monkeypatch, *arguments, module=f"advfool.{module}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks.checkpoint=null"], "select=best needs the checkpoint of the best validation"),
        (["callbacks.checkpoint.monitor=null"], "select=best needs the checkpoint of the best validation"),
        (["callbacks.checkpoint.monitor=val/scor"], "Close to it: val/score,"),
        (["scheduler.total_steps=10"], "scheduler.total_steps=10 ends before the training, trainer.max_steps=600"),
        (["interp=lrp", "evaluate_with=[{lrp: {epsilon: 1}}]"], "lrp is the interpreter trained with"),
        (["fooling=active", "fooling.c1=3", "fooling.c2=3"], "must be two different classes, got [3, 3]"),
        (["trainer.strategy=nonsense"], "trainer.strategy=nonsense"),
        (["paper=table9"], "paper must be a table or figure of the paper, got 'table9'. Close to it: table"),
        (["fooling.name=../x"], "fooling.name must be a name without slashes"),
        (["attack=free", "cache_original=true"], "cache_original=true contradicts attack=free"),
        (["attack=free", "mix=0.5"], "mix=0.5 contradicts attack=free"),
        (["+trainer.min_steps=1000"], "trainer.min_steps=1000 contradicts trainer.max_steps=600"),
        (["+callbacks.checkpoint.save_top_k=0"], "callbacks.checkpoint.save_top_k=0 saves none"),
        (["callbacks.last.filename=best"], "Two checkpoints have the same file, best"),
        (["callbacks.last.filename='../x'"], "callbacks.last.filename must be a name without slashes"),
        (["cache='~nobody-here/x'"], "cache begins with a home folder that does not exist, got '~nobody-here/x'"),
        (["interp=smoothgrad", "interp.interpreter=3"], "interp.interpreter must be an Interpreter object, got 3"),
        (["+trainer.limit_val_batches=0"], "trainer.limit_val_batches must be a whole number of at least 1"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path, monkeypatch, overrides, message):
    assert message in message_of(tmp_path, monkeypatch, *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+optimizer.capturable=true"], "optimizer does not work as it is set: "),
        (["optimizer._target_=torch.optim.SparseAdam"], "optimizer does not work as it is set: SparseAdam"),
        (["~scheduler.total_steps"], "scheduler does not work as it is set: You must define either total_steps OR"),
        (["evaluate_with=[{captum: {method: Nope}}]"], "evaluate_with: captum: captum.attr has no class 'Nope'."),
        (["interp=captum"], "interp=captum is for evaluation only"),
        (["interp=lrp", "interp.mean=[0.5]"], "mean and std must have a number for each channel"),
        (["imports=[.x]"], "imports: the module '.x' cannot be imported: "),
        (["resume=/nowhere"], "resume=/nowhere: expected the folder of an interrupted run, found no such folder."),
        (
            ["callbacks.map_metrics.every_n_validations=1", "callbacks.map_metrics.aopc_images=1", "aopc.region=60"],
            "callbacks.map_metrics: aopc.steps=50",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_any_work_and_leaves_no_run(tmp_path, monkeypatch, overrides, message):
    """Found by building the parts on next to nothing: before a network is pretrained or a data set is read."""
    monkeypatch.setattr("advfool.commands.pretrained.pretrain", lambda *_: pytest.fail("a network was trained"))
    monkeypatch.chdir(tmp_path)
    done = run_here("advfool.train", [*overrides, "aopc.images=0"])
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_home_folder_is_found_behind_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = run_here("advfool.report", ["runs=~/nowhere"])
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in done.stderr
