"""A mnemonic step by hand: what a model makes of codes, how far a step goes, and which pair of bounds is taken."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from efface.methods.mnemonic.step import Codes, CodeScores, best_cell, code_scores, fisher_ratio, move, step_size

LOGITS = torch.tensor([[3.0, 1, 0], [0, 2, 1], [5, 0, 4], [0, 0, 1]])
"""Logits of four codes of the classes 0, 1, 2, 2: right, right, wrong, right."""

LABELS = torch.tensor([0, 1, 2, 2])


def margin(row: list[float], y: int) -> float:
    return row[y] - math.log(sum(math.exp(v) for j, v in enumerate(row) if j != y))


def asked(forget: list[bool], logits: torch.Tensor = LOGITS) -> CodeScores:
    return code_scores(nn.Identity(), Codes(logits, LABELS, torch.tensor(forget)))


def test_what_a_model_makes_of_codes() -> None:
    margins = [margin(row, y) for row, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)]
    found = asked([True, False, False, False])
    assert (found.retained_accuracy, found.forgotten_error) == (pytest.approx(2 / 3), 0)
    assert found.forget_margin == pytest.approx(margins[0])
    assert found.retain_margin == pytest.approx(min(margins[1:]))
    assert found.score == pytest.approx(2 / 3)
    found = asked([False, False, True, True])
    assert (found.retained_accuracy, found.forgotten_error, found.score) == (1, 0.5, 1.5)
    assert found.forget_margin == pytest.approx(max(margins[2:]))
    assert found.row() == {**dataclasses.asdict(found), "score": 1.5}


def test_without_codes_to_forget_only_the_others_count() -> None:
    found = asked([False] * 4)
    assert (found.retained_accuracy, found.forgotten_error, found.forget_margin) == (0.75, 0, -math.inf)
    assert set(found.row()) == {"retained_accuracy", "forgotten_error", "retain_margin", "score"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_the_worst(bad: float) -> None:
    logits = LOGITS.clone()
    logits[0, 2] = bad
    found = asked([True, False, False, False], logits)
    assert found == CodeScores(0.0, 0.0, math.inf, -math.inf)
    assert found.row() == {"retained_accuracy": 0, "forgotten_error": 0, "score": 0}


def test_many_codes_are_asked_in_turn() -> None:
    x = torch.randn(600, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(600) % 3
    codes = Codes(x, y, y == 1)
    found = code_scores(nn.Identity(), codes)
    right = x.argmax(1) == y
    assert found.retained_accuracy == pytest.approx(float(right[y != 1].double().mean()))
    assert found.forgotten_error == pytest.approx(float((~right[y == 1]).double().mean()))


def test_no_weight_moves_by_more_than_the_second_bound() -> None:
    assert step_size(torch.tensor([4.0, 1.0]), 0.1, 10.0) == 0.1
    assert step_size(torch.tensor([4.0, 1.0]), 10.0, 1.0) == 0.25
    assert step_size(torch.tensor([0.5]), 1.0, 0.25) == 0.5
    assert step_size(torch.zeros(2), 0.1, 10.0) == 0.1


def test_a_move_adds_alpha_eta_and_leaves_what_has_no_step_bit_for_bit() -> None:
    weights = {n: nn.Parameter(torch.zeros(2)) for n in ("a", "b")}
    start = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([-0.0, 3.0])}
    eta = {n: torch.tensor([0.5, 4.0], dtype=torch.float64) for n in weights}
    for sign in (1, -1):
        move(weights, start, eta, {"a": 0.1, "b": 0.0}, sign)
        assert weights["a"].tolist() == pytest.approx([1 + sign * 0.05, -2 + sign * 0.4])
        assert torch.equal(weights["b"].detach().view(torch.int32), start["b"].view(torch.int32))
    assert weights["a"].requires_grad


def test_eta_is_a_ratio_of_mean_squares() -> None:
    """One weight per input, no bias: the gradient of a code is (p - onehot) x."""
    model = nn.Linear(2, 3, bias=False).double().eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3, -0.1], [0.2, 0.5], [-0.4, 0.0]]))
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [2.0, 0.1], [0.0, 1.0]], dtype=torch.float64)
    codes = Codes(x, LABELS, torch.tensor([True, False, False, False]))
    error = torch.softmax(x @ model.weight.T, 1).detach() - nn.functional.one_hot(LABELS, 3)
    squares = (error[:, :, None] * x[:, None, :]) ** 2
    expected = (squares[0] + 1e-16) / ((squares[1:].sum(0) + 1e-16) / 3)
    found, scores = fisher_ratio(model, codes, ["weight"])
    torch.testing.assert_close(found["weight"], expected, rtol=1e-10, atol=0)
    assert scores == code_scores(model, codes)
    # Nothing flows to the second input: 0 over 0 is n_R over n_F, by what is added to both sums.
    still = Codes(x * torch.tensor([1.0, 0.0]), LABELS, codes.forget)
    assert fisher_ratio(model, still, ["weight"])[0]["weight"][:, 1].tolist() == pytest.approx([3.0] * 3)


BEFORE = CodeScores(1.0, 0.0, 8.0, 6.0)


def chosen(*cells: tuple[int, CodeScores], before: CodeScores = BEFORE, slack: float = 0.1) -> tuple[int, str]:
    """Position of the pair that is taken, and why."""
    found = {(float(i), 10.0 * i): cell for i, cell in enumerate(cells)}
    pair, why = best_cell(found, before, slack)
    assert pair[1] == 10 * pair[0]
    return int(pair[0]), why


def test_the_deepest_of_those_that_cost_little_is_taken() -> None:
    deep, deeper, deepest = (CodeScores(1.0, 1.0, f, r) for f, r in ((-4.0, 5.0), (-5.0, 4.4), (-9.0, 4.399)))
    # Half the margin before is 4; a tenth of the retained margin before is 0.6: down to 4.4, border included.
    why = "forget margin at most -4.00, retained margin within 10% of the largest, then deepest"
    assert chosen((-1, deep), (-1, deeper), (-1, deepest)) == (1, why)
    assert chosen((-1, deep), (-1, deeper), (-1, deepest), slack=0)[0] == 0
    assert chosen((-1, deep), (-1, deeper), (-1, deepest), slack=0.2)[0] == 2
    unless_told = {(float(i), 0.0): (-1, s) for i, s in enumerate((deep, deeper, deepest))}
    assert best_cell(unless_told, BEFORE)[0] == (1.0, 0.0)
    # One that went up is taken only if none went down.
    assert chosen((1, deeper), (-1, deep))[0] == 1
    assert chosen((1, deep), (1, deeper))[0] == 1
    # A retained code that is lost rules a pair out, however deep it goes.
    lost = CodeScores(0.9, 1.0, -50.0, 6.0)
    assert chosen((-1, lost), (-1, deep))[0] == 1
    # A code that was not known before: nothing has to be lost.
    unknown = dataclasses.replace(BEFORE, forget_margin=-3.0)
    assert chosen((-1, CodeScores(1.0, 1.0, 0.0, 6.0)), (-1, lost), before=unknown)[0] == 0
    # A retained margin below zero gives no slack.
    negative = dataclasses.replace(BEFORE, retain_margin=-2.0)
    assert chosen((-1, deep), (-1, dataclasses.replace(deeper, retain_margin=4.99)), before=negative)[0] == 0


def test_without_a_deep_pair_the_lowest_that_keeps_half_of_the_margin_is_taken() -> None:
    gentle, gentler = CodeScores(0.9, 0.5, -3.0, 3.0), CodeScores(0.9, 0.0, 2.0, 5.0)
    rough = CodeScores(0.9, 1.0, -50.0, 2.99)
    index, why = chosen((-1, rough), (-1, gentler), (-1, gentle))
    assert index == 2
    assert why == (
        "no pair brought the forget margin to -4.00 with every retained code recognised; this one brought it lowest "
        "with at least half of the retained margin"
    )
    # Half of a margin of 1 is enough to be kept, small as it is.
    little = dataclasses.replace(BEFORE, retain_margin=1.0)
    cells = (CodeScores(0.9, 0.2, -1.0, 0.6), CodeScores(0.9, 1.0, -50.0, 0.1))
    assert chosen(*((-1, c) for c in cells), before=little)[0] == 0


def test_without_a_gentle_pair_the_highest_score_is_taken_then_the_lowest_margin() -> None:
    cells = [CodeScores(*c) for c in ((0.5, 0.5, -1.0, 1.0), (0.8, 1.0, 1.0, 1.0), (0.9, 0.9, 0.5, 1.0))]
    index, why = chosen(*((-1, c) for c in cells))
    assert index == 2
    assert why == "no pair kept half of the retained margin; this one has the highest code score"
    assert chosen(*((-1, c) for c in cells[:2]))[0] == 1
    # A model that held no retained code: no half of its margin can be kept.
    nothing = dataclasses.replace(BEFORE, retain_margin=0.0)
    assert chosen((-1, cells[0]), (-1, cells[1]), before=nothing) == (1, why)
