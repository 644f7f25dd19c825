"""What the commands make of a configuration where a fooling swaps two classes."""

import pytest

from advfool.data import DigitsModule, InputFormat
from advfool.foolings import Active
from advfool.utilities.config import conf_dir
from advfool.utilities.errors import AdvfoolError
from tests.helpers.photos import make_photos

FORMAT = InputFormat(56, 56, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advfool.data.digits.PLACEMENTS", {"train": 1, "selection": 1, "test": 1})
        yield str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def digits(cache):
    return DigitsModule(FORMAT, cache, batch_size=16, eval_batch_size=32)


def test_a_fooling_takes_the_datas_pair_where_it_names_no_class(cache, digits):
    from advfool.evaluation.assembly import with_classes

    data = DigitsModule(FORMAT, cache, pair=[3, "8"])
    fooling = with_classes(Active(), data)
    assert (fooling.c1, fooling.c2) == (3, 8)
    fooling = with_classes(Active(c1="5", batch_size=7), data)
    assert (fooling.c1, fooling.c2, fooling.batch_size) == (5, 8, 7)
    fooling = with_classes(Active(c1=0, c2="1"), digits)
    assert (fooling.c1, fooling.c2) == (0, 1)
    with pytest.raises(AdvfoolError) as error:
        with_classes(Active(c1=0), digits)  # this one has no pair
    assert str(error.value) == "fooling=active swaps two classes: name them, fooling.c1=... fooling.c2=..."


@pytest.mark.parametrize("pair", [[3], [3, 8, 5]])
def test_a_pair_is_two_classes(cache, pair):
    from advfool.evaluation.assembly import with_classes

    with pytest.raises(AdvfoolError, match="^pair must be two classes, by index or name, or None, got"):
        with_classes(Active(), DigitsModule(FORMAT, cache, pair=pair))


def assembled(*overrides):
    from hydra import compose, initialize_config_dir

    from advfool.commands.setup import build_setup

    options = ["model=resnet_tiny", "model.weights=null", "fooling=active", "evaluate_with=[]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [*options, *overrides])
    configured = build_setup(cfg)
    return configured.setup, configured.config


def test_active_fooling_needs_no_other_setting(cache):
    from advfool.commands.setup import training_from

    setup, cfg = assembled(f"cache={cache}")
    assert (cfg.fooling.c1, cfg.fooling.c2) == (setup.fooling.c1, setup.fooling.c2) == (1, 8)
    training_from(cfg).check(setup)


def test_missing_classes_are_an_error_before_the_start(tmp_path):
    for split, count in {"train": 20, "val": 3}.items():
        for label in ("cat", "dog", "emu"):
            make_photos(tmp_path / split / label, count)
    options = ["data=imagefolder", f"data.root={tmp_path}", "data.workers=0", f"cache={tmp_path}"]
    setup, cfg = assembled(*options, "fooling.c1=dog", "fooling.c2=0", "fooling.train=6", "fooling.test=4")
    assert (cfg.fooling.c1, cfg.fooling.c2) == (setup.fooling.c1, setup.fooling.c2) == (1, 0)
    assert [len(split) for split in setup.composites] == [6, 4, 4]
    assert setup.composites.test.classes == (1, 0)
    for overrides, message in (
        ([], "fooling=active swaps two classes: name them, fooling.c1=... fooling.c2=..."),
        (["fooling.c1=dog", "fooling.c2=eel"], "There is no class 'eel' among the 3 of the data."),
        (["fooling.c1=dog", "fooling.c2=1"], "must be two different classes, got ['dog', 1]."),
        (["data.pair=[cat,dog]", "data.limit_test=2"], "needs at least 2 test images of class 'cat' (0), found 1."),
    ):
        with pytest.raises(AdvfoolError) as error:
            assembled(*options, *overrides)
        assert message in str(error.value)


@pytest.mark.parametrize("lacking", [(), ("faithfulness", "nulls"), ("aopc", "faithfulness", "nulls", "accuracy")])
def test_the_configuration_of_an_older_run_has_default_values_for_what_it_lacks(lacking):
    from omegaconf import OmegaConf

    from advfool.commands.setup import settings_from
    from advfool.evaluation.setup import Settings

    keys = {"aopc": {"images": 3}, "faithfulness": {"images": 5}, "nulls": {"images": 7}, "accuracy": {"margin": 0.02}}
    stored = {key: value for key, value in keys.items() if key not in lacking}
    stored |= {"target": "label", "seed": 0, "fsr_images": 9, "pictures": 0}
    settings, usual = settings_from(OmegaConf.create(stored)), Settings()
    for key, value in keys.items():
        name, number = next(iter(value.items()))
        expected = getattr(getattr(usual, key), name) if key in lacking else number
        assert getattr(getattr(settings, key), name) == expected


def test_a_finished_run_is_opened_with_every_setting_of_a_comparison():
    from dataclasses import fields

    from advfool.evaluation.setup import Settings
    from advfool.reporting.paper.networks import USED

    assert {field.name for field in fields(Settings)} <= set(USED)
