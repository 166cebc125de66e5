"""The judge asks the audit's own questions, and leaves others unread."""

from types import SimpleNamespace

from efface.artifact.case import Case
from efface.searching import judge as judging
from efface.searching.judge import Judge
from tests.world import RECIPE


def test_it_does_not_ask_about_canaries(world, monkeypatch):
    given = {}

    def assess(*_, settings):
        given.update(settings.model_dump())
        return SimpleNamespace(verdict=SimpleNamespace(unfit="", checks=()))

    monkeypatch.setattr(judging, "assess", assess)
    case = Case.of(
        world.models["original"], world.split.data, world.split.request, device="cpu", recipe=RECIPE, validation=0.1
    )
    assert Judge(case, [world.models["retrained"]])._differences(world.models["logit mask"]) == {}
    assert given["canaries"] is False
    assert given["sealed"] is False
