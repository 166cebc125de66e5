"""Plans as data: what is refused when they are read, the cells in order, and whose folder is whose."""

from __future__ import annotations

import pytest

from efface.comparing.plan import Entry, Plan, Preparation, check_folder, read_plan
from efface.errors import InputError

GIVEN = {
    "name": "p",
    "data": {"source": "digits"},
    "model": {"build": "mlp"},
    "requests": [{"classes": [0]}, {"classes": [3]}],
    "methods": [{"method": "original"}],
}


def plan(**fields) -> Plan:
    return Plan.model_validate({**GIVEN, **fields})


def test_cells_are_entries_by_settings_by_requests_by_seeds():
    prepared = Preparation(method="mnemonic", settings={"steps": 2})
    grid = {"alpha": [5, 10], "lam": [1, 2]}
    methods = [
        {"method": "original"},
        {"method": "ssd", "settings": {"lam": 7, "batch_size": 2}, "grid": {"alpha": [5, 10]}},
        {"method": "ssd", "label": "both", "grid": grid, "train": {"method": None}},
    ]
    cells = plan(methods=methods, seeds=[4, 2], train=prepared.model_dump()).cells()
    assert [(c.entry, c.method, c.request.classes, c.seed) for c in cells[:6]] == [
        ("original", "original", (0,), 4),
        ("original", "original", (0,), 2),
        ("original", "original", (3,), 4),
        ("original", "original", (3,), 2),
        ("ssd", "ssd", (0,), 4),
        ("ssd", "ssd", (0,), 2),
    ]
    assert [c.settings for c in cells[4:12:4]] == [{"lam": 7, "batch_size": 2, "alpha": a} for a in (5, 10)]
    assert [tuple(c.settings.values()) for c in cells[12::4]] == [(5, 1), (5, 2), (10, 1), (10, 2)]
    assert [c.train for c in cells] == [prepared] * 12 + [Preparation()] * 16
    assert {c.entry for c in cells[12:]} == {"both"}
    # The entry's own value of what its grid varies gives way.
    assert list(Entry(method="ssd", settings={"alpha": 1}, grid={"alpha": [5]}).expanded()) == [{"alpha": 5}]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"methods": [{"method": "original", "settings": {"alpha": 1}}]}, "the entry `original` forgets nothing and"),
        ({"methods": [{"method": "sssd"}]}, "mean 'ssd'"),
        ({"methods": [{"method": "ssd", "grid": {"alfa": [1]}}]}, "mean 'alpha'"),
        (
            {"methods": [{"method": "original"}, {"method": "boundary-shrink"}], "requests": [{"items": [1, 2]}]},
            "'boundary-shrink' forgets classes, and the plan asks to forget items 1, 2; leave one of",
        ),
        ({"train": {"method": "mnemonicc"}}, "mean 'mnemonic'"),
        ({"train": {"method": "mnemonic", "settings": {"nothing": 1}}}, "nothing"),
    ],
)
def test_cells_are_checked_before_any_work(fields, why):
    with pytest.raises(InputError, match=why):
        plan(**fields).cells()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"references": 1}, "references are for audits; add audit to the measures, or leave references out"),
        ({"published": {"b": {}, "a": {}}}, r"not in the plan: \['a', 'b'\]; rows: \['original'\]"),
        (
            {"methods": [{"method": "ssd"}, {"method": "ssd"}]},
            r"each row needs a label of its own; given: \['ssd', 'ssd'\]",
        ),
        ({"measures": ["acuracy"]}, r"unknown measure 'acuracy'\. Did you mean 'accuracy'\?.* A function of your own"),
        ({"measures": [lambda model, case: 1.0]}, "a function cannot be imported by other processes"),
        ({"measures": [["accuracy"]]}, "should be a valid string"),
        ({"measures": [3, "accuracy"]}, "should be a valid string"),
        ({"measures": "accuracy"}, "measures"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(fields, why):
    with pytest.raises(ValueError, match=why):
        plan(**fields)


def test_each_measure_is_asked_once_and_ones_own_by_path():
    assert plan(measures=["probe", "accuracy", "probe"]).measures == ("probe", "accuracy")
    assert plan(measures=["my_package:my_metric"]).measures == ("my_package:my_metric",)
    assert plan(references=4, measures=["audit"]).references == 4


def test_a_folder_belongs_to_the_plan_of_its_name(tmp_path):
    mine = plan()
    check_folder(tmp_path, mine)  # empty
    file = tmp_path / "plan.json"
    file.write_text(plan(seeds=[1, 2]).model_dump_json())
    check_folder(tmp_path, mine)  # a changed plan replaces its own
    file.write_text('{"name": "p", "a field of": "another version"}')
    check_folder(tmp_path, mine)
    for content in (plan(name="q").model_dump_json(), '{"name": "q"}'):
        file.write_text(content)
        with pytest.raises(InputError, match=r"holds the results of the plan 'q'; give 'p' a folder of its own"):
            check_folder(tmp_path, mine)
    for content in ("{", "[]", "{}", "3"):
        file.write_text(content)
        with pytest.raises(InputError, match=r"plan\.json is damaged: "):
            check_folder(tmp_path, mine)


def test_a_plan_is_read_from_yaml(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: p\ndata: {source: digits}\nmodel: {build: mlp}\nrequests: [{classes: [0]}, {classes: [3]}]\n"
    )
    with pytest.raises(InputError, match="methods"):
        read_plan(file)
    with file.open("a") as more:
        more.write("methods: [{method: original}]\n")
    assert read_plan(file) == plan()


def test_requests_of_the_same_words_are_told_apart_by_their_place():
    many = [{"items": range(k, k + 10)} for k in (0, 20)]
    made = plan(requests=[many[0], {"items": [7]}, many[1]])
    assert made.asked() == ["10 items (request 1)", "item 7", "10 items (request 3)"]
    assert [(c.request, c.asked) for c in made.cells()] == list(zip(made.requests, made.asked(), strict=True))
