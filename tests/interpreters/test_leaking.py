"""Another slope below zero, in interpreters and in those within them."""

from advfool.interpreters import LRP, Aggregate, GradCAM, IntegratedGradients, SimpleGrad, SmoothGrad
from advfool.interpreters.leaking import with_training_leak


def test_the_slope_changes_wherever_there_is_one():
    cam = GradCAM("a", training_leak=0.1)
    assert with_training_leak(cam, 0.01) == GradCAM("a", training_leak=0.01)
    assert with_training_leak(SmoothGrad(interpreter=cam), 0.01).interpreter.training_leak == 0.01
    both = with_training_leak(Aggregate([cam, LRP("a", training_leak=0.2)]), 0.01)
    assert [each.training_leak for each in both.interpreters] == [0.01, 0.01]
    assert cam.training_leak == 0.1


def test_interpreters_without_a_slope_get_one():
    for interpreter in (GradCAM("a"), SimpleGrad("a"), IntegratedGradients("a")):
        assert with_training_leak(interpreter, 0.01).for_training().leak == 0.01
        assert interpreter.for_training().leak == 0
