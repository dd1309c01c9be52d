"""Use cases: which models are recommended for what."""

from __future__ import annotations

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model
from orrouter.cli.models import UseCaseName
from orrouter.cli.usecases import MOST, USE_CASES, UseCase, recommended


def model(slug: str, prompt: str = "0.000001", **more) -> Model:
    return Model.read({"id": slug, "pricing": {"prompt": prompt, "completion": prompt}, **more})


def best(use_case: UseCase, *models: Model) -> list[str]:
    return [one.id for one in recommended(use_case, models)]


def test_every_word_of_the_command_line_is_a_use_case():
    """`--for` offers what the table knows, no more and no less."""
    assert list(USE_CASES) == [name.value for name in UseCaseName]


@pytest.mark.parametrize("name", USE_CASES)
def test_the_bundled_list_has_models_for_every_use_case(name):
    """No use case is empty, none is a flood, and each model can do what is asked."""
    found = recommended(USE_CASES[name], Catalog())
    assert 3 <= len(found) <= MOST
    assert len(found) == len({one.id for one in found})
    assert all(USE_CASES[name].fits(one) for one in found)


@pytest.mark.parametrize(
    ("newest", "older"),
    [
        ("acme/bot-5.5", "acme/bot-5"),
        ("acme/bot-10", "acme/bot-9.9"),
        ("acme/bot-4", "acme/bot-4-fast"),
        ("acme/bot-2", "acme/bot-1-2407"),
        ("acme/bot-1", "acme/bot-2407"),
    ],
)
def test_a_family_sends_its_newest_version(newest, older):
    """A higher version is newer, a date is no version, and of one version the plain name is taken."""
    family = UseCase("", lambda model: True, ("acme/bot-*",))
    assert [newest] == best(family, model(older), model(newest))


def test_families_come_in_the_order_of_the_table_and_give_one_each():
    """The first family's model is the first choice; a model that two families fit stands once."""
    case = UseCase("", lambda model: True, ("b/*", "a/*", "*"))
    assert ["b/2", "a/1", "c/1"] == best(case, model("a/1"), model("c/1"), model("b/1"), model("b/2"))


def test_without_families_the_cheapest_come_first():
    """Prices that are not known come last."""
    case = UseCase("", lambda model: True)
    unknown = Model.read({"id": "a/unknown"})
    assert ["c/1", "b/1", "a/unknown"] == best(case, unknown, model("b/1", "0.2"), model("c/1", "0.1"))


def test_batch_models_and_aliases_are_never_recommended():
    """A batch answers tomorrow, and an alias is another name of a model that is there itself."""
    tools = {"supported_parameters": ["tools"]}
    found = best(USE_CASES["cheap"], model("a/b:batch", **tools), model("~a/b-latest", **tools), model("a/b", **tools))
    assert ["a/b"] == found
