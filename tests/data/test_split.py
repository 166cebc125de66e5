"""Splits: disjoint, complete, validation independent of the request, chains of requests, declared access."""

from __future__ import annotations

import dataclasses
import re
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.data import TensorDataset

from efface.data import ArraySamples, Counts, Data, Split
from efface.errors import DataAccessError, InputError
from efface.request import Request

N = 60
RNG = np.random.default_rng(0)
TRAIN = ArraySamples(torch.arange(N, dtype=torch.float32)[:, None], RNG.permutation(np.arange(N) % 5))
TEST = ArraySamples(torch.arange(25, dtype=torch.float32)[:, None], np.arange(25) % 5)
DATA = Data("tiny", TRAIN, TEST, tuple("abcde"), groups=np.arange(N) // 6)

classes = st.sets(st.integers(0, 4), min_size=1, max_size=3)
items = st.sets(st.integers(0, N - 1), min_size=1, max_size=30)
requests: st.SearchStrategy[dict[str, Any]] = st.one_of(
    classes.map(lambda c: {"classes": sorted(c)}),
    items.map(lambda i: {"items": sorted(i)}),
    st.sets(st.integers(0, 9), min_size=1, max_size=5).map(lambda g: {"groups": sorted(g)}),
)


def split_of(fields: dict[str, Any] | None, validation: float, seed: int, earlier: tuple[Request, ...] = ()) -> Split:
    request = None if fields is None else Request.of(**fields)
    try:
        return Split.of(DATA, request, validation, seed, earlier)
    except InputError as error:
        assume("never trained on" not in str(error))
        raise


@given(requests, st.sampled_from([0, 0.1, 0.3, 0.5]), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_parts_are_disjoint_and_complete(fields: dict[str, Any], validation: float, seed: int) -> None:
    split = split_of(fields, validation, seed)
    parts = [set(p.indices.tolist()) for p in (split.forget, split.retain, split.validation)]
    assert all(not a & b for a, b in combinations(parts, 2))
    assert set().union(*parts) <= set(range(N))
    assert split.counts is not None
    assert N - len(set().union(*parts)) == (0 if split.forget_classes else split.counts.untrained)
    assert parts[0] | parts[1] == set(split.train.indices.tolist())
    asked = set(Request.of(**fields).resolve(DATA).indices.tolist())
    assert parts[0] == asked - set(split.held_out.tolist())
    assert not asked & parts[1]
    for part in (split.forget, split.retain, split.validation, split.train):
        assert part.indices.tolist() == sorted(part.indices.tolist())
        assert part.indices.dtype == np.int64


@given(requests, st.sampled_from([0.1, 0.3]), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_what_is_held_out_depends_on_the_seed_and_never_on_the_request(
    fields: dict[str, Any], validation: float, seed: int
) -> None:
    plain, asked = split_of(None, validation, seed), split_of(fields, validation, seed)
    assert plain.held_out.tolist() == asked.held_out.tolist()
    assert plain.train.indices.tolist() == asked.train.indices.tolist()
    assert plain.counts is None
    for c in range(5):
        here = int((TRAIN.labels[torch.from_numpy(plain.held_out)] == c).sum())
        assert here == round(validation * int((TRAIN.labels == c).sum()))


named = st.lists(st.integers(0, N - 1), min_size=1, max_size=40)  # may name an item again
HALF = np.concatenate([np.arange(25) // 6, [0]])[:25]  # the test set knows the people 0 to 4 only


@given(
    st.one_of(
        classes.map(lambda c: {"classes": sorted(c)}),
        named.map(lambda i: {"items": i}),
        st.sets(st.integers(0, 9), min_size=1, max_size=5).map(lambda g: {"groups": sorted(g)}),
    ),
    st.lists(items.map(sorted), max_size=2),
    st.sampled_from([0, 0.1, 0.3, 0.5]),
    st.integers(0, 50),
)
@settings(max_examples=100, deadline=None)
def test_every_record_asked_for_is_counted_once(
    fields: dict[str, Any], earlier: list[list[int]], validation: float, seed: int
) -> None:
    """Counted here record by record, and the slow way; `Counts` itself insists that they add up."""
    data = dataclasses.replace(DATA, test_groups=HALF)
    try:
        split = Split.of(data, Request.of(**fields), validation, seed, [Request.of(items=i) for i in earlier])
    except InputError:
        assume(False)
    served, held_out, labels = set().union(*map(set, earlier)), set(split.held_out.tolist()), TRAIN.labels.tolist()
    if "items" in fields:
        listed = fields["items"]
    elif "classes" in fields:
        listed = [i for i in range(N) if labels[i] in fields["classes"]]
    else:
        listed = [i for i in range(N) if i // 6 in fields["groups"]]
    in_test = sum(g in fields.get("groups", ()) for g in HALF.tolist())
    found = set(listed)
    counts = split.counts
    assert counts.asked == len(listed) + in_test
    assert (counts.found, counts.in_test, counts.repeated) == (len(found), in_test, len(listed) - len(found))
    assert counts.already == len(found & served)
    assert counts.untrained == len(found & held_out - served)
    assert counts.forgotten == len(found - served - held_out) == len(split.forget)
    assert re.match(rf"{counts.asked} records? asked for: {counts.forgotten} to forget", counts.text)


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValidationError, match="found"):
        Counts(asked=4, found=4, forgotten=3)
    with pytest.raises(ValidationError, match="asked for"):
        Counts(asked=5, found=4, forgotten=4)


def test_a_person_of_the_test_set_alone_is_told_apart_from_an_unknown_one() -> None:
    data = dataclasses.replace(DATA, groups=np.arange(N) // 30, test_groups=np.arange(25) // 5)
    with pytest.raises(InputError, match="group 4 has no training records"):
        Split.of(data, Request.of(groups=[4]))
    with pytest.raises(InputError, match="no such group: 9"):
        Split.of(data, Request.of(groups=[9]))


def test_another_seed_holds_out_other_samples() -> None:
    assert len({tuple(Split.of(DATA, seed=s).held_out.tolist()) for s in range(10)}) > 1


def test_a_class_request_splits_validation_and_test_again() -> None:
    split = Split.of(DATA, Request.of(classes=["b", "d"]), 0.25)
    assert split.forget_classes == (1, 3)
    assert split.retain_classes == (0, 2, 4)
    for forgotten, kept in ((split.validation_forget, split.validation_retain), (split.test_forget, split.test_retain)):
        assert set(forgotten.labels.tolist()) == {1, 3}
        assert set(kept.labels.tolist()) == {0, 2, 4}
    assert len(split.test_forget) + len(split.test_retain) == len(split.test) == 25
    assert len(split.validation_forget) + len(split.validation_retain) == len(split.validation)


def test_an_item_request_forgets_no_class() -> None:
    split = Split.of(DATA, Request.of(items=range(20)), 0.25)
    assert split.forget_classes == ()
    assert len(split.test_forget) == len(split.validation_forget) == 0
    assert len(split.test_retain) == 25
    assert split.counts.untrained == len([i for i in split.held_out if i < 20]) > 0
    assert not set(split.validation.indices.tolist()) & set(range(20))


@given(items, items)
@settings(max_examples=40, deadline=None)
def test_a_chain_forgets_each_item_once_and_retains_neither(first: set[int], second: set[int]) -> None:
    assume(second - first)
    earlier = (Request.of(items=sorted(first)),)
    split = split_of({"items": sorted(second)}, 0.1, 0, earlier)
    assert not set(split.forget.indices.tolist()) & first
    for part in (split.retain, split.validation, split.train):
        assert not set(part.indices.tolist()) & first
    joint = split_of({"items": sorted(first | second)}, 0.1, 0)
    assert split.retain.indices.tolist() == joint.retain.indices.tolist()


def test_a_chain_of_classes_keeps_earlier_ones_out_of_both_sides() -> None:
    earlier = [Request.of(classes=["a"]), Request.of(items=[0, 1, 2])]
    split = Split.of(DATA, Request.of(classes=["b"]), 0.1, earlier=earlier)
    assert split.forget_classes == (1,)
    assert split.retain_classes == (2, 3, 4)
    assert 0 not in split.train.labels
    assert 0 not in split.test_retain.labels
    assert 0 not in split.test_forget.labels
    assert 0 not in split.validation.labels
    with pytest.raises(InputError, match="class a was already forgotten"):
        Split.of(DATA, Request.of(classes=["a", "c"]), earlier=earlier)
    with pytest.raises(InputError, match="everything asked for was already forgotten"):
        Split.of(DATA, Request.of(items=[1]), earlier=earlier)
    with pytest.raises(InputError, match="nothing would be left"):
        Split.of(DATA, Request.of(classes=list("bcd")), earlier=[Request.of(classes=["a"]), Request.of(classes=["e"])])


@given(items, items, items)
@settings(max_examples=40, deadline=None)
def test_each_request_of_a_sequence_can_be_looked_at_again(first: set[int], second: set[int], third: set[int]) -> None:
    """What each forgot is what it forgot then, and all retain what no request names."""
    assume(second - first)
    assume(third - first - second)
    requests = [Request.of(items=sorted(i)) for i in (first, second, third)]
    joint = split_of({"items": sorted(first | second | third)}, 0.1, 0)
    for k, request in enumerate(requests):
        try:
            then = Split.of(DATA, request, 0.1, 0, requests[:k])
        except InputError:  # all of its records are held out
            assume(False)
        again = Split.of(DATA, request, 0.1, 0, requests[:k], requests[k + 1 :])
        assert again.forget.indices.tolist() == then.forget.indices.tolist()
        assert again.retain.indices.tolist() == joint.retain.indices.tolist()
        assert again.validation.indices.tolist() == joint.validation.indices.tolist()
        assert again.counts == then.counts


def test_items_can_be_looked_at_again_after_their_class_went() -> None:
    request, later = Request.of(items=[0, 1, 2]), [Request.of(classes=["a", "b"])]
    split = Split.of(DATA, request, 0.0, later=later)
    assert split.forget.indices.tolist() == [0, 1, 2]
    assert split.retain_classes == (2, 3, 4)
    assert not {0, 1} & set(split.retain.labels.tolist())


def test_without_a_request_everything_is_retained() -> None:
    split = Split.of(DATA)
    assert len(split.forget) == 0
    assert split.retain.indices.tolist() == split.train.indices.tolist()
    assert split.retain_classes == (0, 1, 2, 3, 4)


def test_undeclared_parts_raise_and_name_who_and_what() -> None:
    split = Split.of(DATA, Request.of(classes=[0])).only(("forget",), "some-method")
    assert len(split.forget)
    for name in ("retain", "train", "validation", "validation_retain", "test", "test_forget", "test_retain"):
        with pytest.raises(DataAccessError, match=r"some-method touched .* data; it declared forget"):
            getattr(split, name)
    with pytest.raises(DataAccessError, match="declared no data"):
        _ = split.only((), "x").forget
    with pytest.raises(DataAccessError):
        _ = split.only(("retain", "forget"), "cannot widen").retain


def test_only_validation_items_were_never_trained_on() -> None:
    held_out = Split.of(DATA).held_out
    with pytest.raises(InputError, match="never trained on"):
        Split.of(DATA, Request.of(items=held_out.tolist()))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_the_fraction_is_checked(fraction: float) -> None:
    with pytest.raises(InputError, match="validation fraction"):
        Split.of(DATA, validation=fraction)


def test_records_are_called_what_the_data_calls_them() -> None:
    x = torch.arange(24.0).reshape(12, 2)
    train = TensorDataset(x, torch.arange(12) % 2)
    data = Data.of(train, train, ids=[f"photo {i}.jpg" for i in range(12)], groups=["a", "b", "c"] * 4)
    asked = Split.of(data, Request.of(items=[4, 0]), validation=0)
    assert asked.request_text == "items 4, 0 (photo 4.jpg, photo 0.jpg)"
    assert asked.forget_ids == ("photo 0.jpg", "photo 4.jpg")
    many = Split.of(data, Request.of(items=range(10)), validation=0)
    assert many.request_text.endswith("(photo 0.jpg, photo 1.jpg, photo 2.jpg and 7 more)")
    group = Split.of(data, Request.of(groups=["b"]), validation=0.3)
    assert group.request_text == "group b"
    assert group.counts is not None
    assert len(group.forget_ids) == group.counts.forgotten < 4  # what was held out was not forgotten
    assert Split.of(data, Request.of(classes=[0])).forget_ids == ()
    assert Split.of(Data.of(train, train), Request.of(items=[4])).request_text == "item 4"
