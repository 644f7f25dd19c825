"""Several interpreters on the command line: a list of Hydra's would drop all but the last."""

import pytest
from hydra import compose, initialize_config_dir

from advfool.commands.joint import joint_name, with_joint_choices
from advfool.commands.trials import built_interpreters
from advfool.utilities.config import conf_dir
from advfool.utilities.errors import AdvfoolError


def composed(*arguments):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", with_joint_choices(arguments, "train"))


def test_neither_interpreter_of_a_list_is_dropped():
    cfg = composed("interp=[gradcam,lrp_t]", "evaluate_with=[simplegrad_t]", "interp.training_leak=0.2")
    assert (cfg.interp.name, cfg.also, list(cfg.others)) == ("gradcam", ["lrp_t"], ["lrp_t"])
    assert cfg.others.lrp_t._target_ == "advfool.interpreters.LRP"
    built = built_interpreters(cfg)
    assert list(built) == ["gradcam", "lrp_t", "simplegrad_t"]
    assert built["gradcam"].training_leak == 0.2
    assert composed("interp=lrp_t").also == []
    assert composed("also=[lrp_t,{lrp: {epsilon: 0.5}}]").others.lrp.epsilon == 0.5


def test_a_sweep_runs_over_joint_and_single_attacks():
    (swept,) = with_joint_choices(["interp=[gradcam,lrp_t],gradcam,[lrp,ig]"], "train")
    assert swept == "interp=gradcam+lrp_t,gradcam,lrp+ig"
    assert with_joint_choices(["interp=gradcam,lrp_t", "-m"], "train") == ["interp=gradcam,lrp_t", "-m"]
    for choice, also in (("gradcam+lrp_t", ["lrp_t"]), ("gradcam", []), ("lrp+ig", ["ig"])):
        cfg = composed(f"interp={choice}")
        assert (cfg.interp.name, cfg.also) == (choice.partition("+")[0], also)
    assert joint_name("gradcam", ["lrp_t", {"lrp": {}}]) == "gradcam+lrp_t+lrp"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[]", r"interp=\[\]: expected the names of interpreters"),
        ("[gradcam,gradcam]", "'gradcam' is given twice"),
        ("[gradcam,lrpt]", "There is no interp 'lrpt'. Close to it: lrp_t"),
        ("gradcam,[lrp,lrp]", "'lrp' is given twice"),
    ],
)
def test_bad_lists_are_refused(given, message):
    with pytest.raises(AdvfoolError, match=message):
        with_joint_choices([f"interp={given}"], "train")
