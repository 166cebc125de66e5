"""The verdict: two-sided, in plain language, never above its level of evidence; what is missing never passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from efface.auditing.checks import USEFULNESS, Check
from efface.auditing.questions import MEANING, Direction
from efface.auditing.rows import Level
from efface.auditing.scores.score import Frozen

__all__ = ["ANSWERS_ONLY", "LEVELS", "LIMITS", "Answer", "Usefulness", "Verdict", "VerdictOutcome", "conclude"]

VerdictOutcome = Literal["alike", "differs", "not assessed", "nothing was done"]

Usefulness = Literal["alike", "less", "more", "could not tell"]

Answer = Literal["no difference found", "no", "could not tell"]
"""What can be said to "Did it forget?"; "yes" is not among it, because no audit shows that."""

LEVELS: dict[Level, str] = {
    "a": "no retrained model to compare with: sanity checks only",
    "b": "compared with one retrained model: how much retrained models differ among themselves is not known",
    "c": "compared with several retrained models: every difference is judged against theirs",
}

LIMITS = (
    "This is evidence of diligence, not proof: the same weights can come from different data (arXiv 2110.11891), and "
    "a dishonest provider can pass checks of a model's answers.",
    "Attacks that were not made may succeed where these failed; one threshold for all records is a weak attack.",
    "A difference smaller than the stated intervals and floors cannot be seen here.",
)

ANSWERS_ONLY = (
    "Only answers were given. They can show that a model has not forgotten, never that it has: what its weights and "
    "features still hold was not looked at."
)
"""Said where no model was there to look into (probes, relearning)."""

UNCHANGED = "nothing was done: the weights of {candidate!r} are the original's"


class Verdict(Frozen):
    """The conclusion, never above its level of evidence.

    Attributes:
        level: a: no retrained model; b: one; c: several.
        outcome: `alike` only if every check that the level allows was made and none found a difference (being more
            accurate than a retrained model is none); `nothing was done` if the weights are the original's.
        headline: Its first sentence, which names the level.
        sentences: The rest, in plain language, in order of importance.
        checks: What it rests on.
        control: Whether the same checks tell the original from a retrained model; where they do not, they cannot show
            that anything was forgotten, and the outcome is `not assessed`. None without a retrained model.
        useful: What it is still good for, beside a retrained model (at level a: the original).
        advice: What to try next.
        unfit: Why the retrained models are none to compare with; empty if they are.
    """

    level: Level
    outcome: VerdictOutcome
    headline: str
    sentences: tuple[str, ...]
    checks: tuple[Check, ...]
    control: bool | None = None
    useful: Usefulness = "could not tell"
    advice: str = ""
    unfit: str = ""

    @property
    def answer(self) -> Answer:
        """The answer to "Did it forget?", from the checks about forgetting alone: lost usefulness is another question.

        `no` if any of them differs, on either side, or nothing was done; `no difference found` if all were made at
        level b or c, none differs and those that are alike could have; else `could not tell`.
        """
        about = [c for c in self.checks if c.key not in USEFULNESS]
        if self.outcome == "nothing was done" or any(c.outcome == "differs" for c in about):
            return "no"
        missing = any(c.outcome == "not assessed" and c.told is not False for c in about)
        found = any(c.outcome == "alike" for c in about) and not missing
        return "no difference found" if found and self.level != "a" and self.control is not False else "could not tell"


def conclude(
    level: Level,
    candidate: str,
    checks: Sequence[Check],
    control: Sequence[Check] | None = None,
    *,
    unchanged: bool = False,
    unfit: str = "",
    about: str = "",
    instead: str = "",
    recorded: bool = False,
) -> Verdict:
    """Put the checks together: is it forgotten, and is it still useful?

    Args:
        level: Of evidence.
        candidate: What is judged.
        checks: From `checks_against_floor` or `checks_against_original`.
        control: The same checks made on the original model, which has forgotten nothing.
        unchanged: Whether the candidate's weights are the original's.
        unfit: Why the retrained models are none to compare with.
        about: What is known of the records asked for themselves, as a sentence of its own.
        instead: What to try where no question tells the original from a retrained model.
        recorded: Whether only answers are known, so that questions about weights and features stay open.

    Returns:
        `differs` if a question about forgetting does, or usefulness was lost; `alike` only above level a, if every
        question was asked, and some that tell the original from a retrained model; else `not assessed`.
    """
    telling = None if control is None else [c.key for c in control if c.outcome == "differs" and _about(c)]
    useful = _usefulness(checks)
    forgetting = [c for c in checks if _about(c)]
    missing = [c for c in checks if c.outcome == "not assessed" and c.told is not False]
    outcome: VerdictOutcome
    if unchanged:
        outcome = "nothing was done"
    elif unfit:
        outcome = "not assessed"
    elif any(c.outcome == "differs" for c in forgetting) or useful == "less":
        outcome = "differs"
    else:
        found = any(c.outcome == "alike" for c in forgetting)
        outcome = "alike" if level != "a" and found and not missing and telling != [] else "not assessed"
    verdict = Verdict(
        level=level,
        outcome=outcome,
        headline="",
        sentences=(),
        checks=tuple(checks),
        control=None if telling is None else bool(telling),
        useful=useful,
        unfit=unfit,
    )
    said = UNCHANGED.format(candidate=candidate) if unchanged else unfit or _forgetting(verdict, candidate, missing)
    open_by_nature = recorded and not unfit and level != "a" and verdict.control and verdict.outcome == "not assessed"
    why = ANSWERS_ONLY if open_by_nature else ""
    parts = [f"Level ({level}), {LEVELS[level]}.", f"{said[0].upper()}{said[1:]}.", why, _use(verdict), about]
    update = {"headline": " ".join(p for p in parts if p), "advice": _advice(verdict, instead, recorded)}
    verdict = verdict.model_copy(update=update)
    return verdict.model_copy(update={"sentences": tuple(_sentences(verdict, telling))})


def _about(check: Check) -> bool:
    """Whether a check is about forgetting; the others are about usefulness."""
    return check.key not in USEFULNESS


def _usefulness(checks: Sequence[Check]) -> Usefulness:
    found = [c for c in checks if not _about(c)]
    if any(c.direction == "worse" for c in found):
        return "less"
    if any(c.direction == "better" for c in found):
        return "more"
    return "alike" if any(c.outcome == "alike" for c in found) else "could not tell"


def _forgetting(verdict: Verdict, candidate: str, missing: Sequence[Check]) -> str:
    """Say in one sentence, without its full stop, what is known about forgetting."""
    than = "what it should be" if verdict.level == "a" else "a model retrained without the data"
    differing = [c for c in verdict.checks if _about(c) and c.outcome == "differs"]
    kinds: tuple[Direction, ...] = ("left", "over", "unlike")
    by_kind = {k: ", ".join(c.key for c in differing if c.direction == k) for k in kinds}
    found = [f"{MEANING[kind]} (asked: {keys})" for kind, keys in by_kind.items() if keys]
    if differing:
        several = "questions disagree on the side: " if by_kind["left"] and by_kind["over"] else ""
        return f"{candidate!r} differs from {than} in what it knows: {several}{'; '.join(found)}"
    if verdict.level == "a":
        return f"whether {candidate!r} has forgotten was not assessed; the sanity checks found no knowledge left"
    if verdict.control is False:
        return (
            f"nothing about these records could be told from the original: no question tells {candidate!r} from a "
            "model retrained without the data, but none tells the original from it either"
        )
    asked = sum(_about(c) and c.outcome == "alike" for c in verdict.checks)
    text = f"no difference was found between {candidate!r} and a model retrained without the data"
    if missing:
        were = "was" if len(missing) == 1 else "were"
        return f"{text} in what was measured, but {len(missing)} of {len(verdict.checks)} questions {were} not assessed"
    return f"{text}, by {asked} question{'s' * (asked != 1)} that can tell"


def _use(verdict: Verdict) -> str:
    """Say in one sentence what it is still good for."""
    other = "the original" if verdict.level == "a" else "a retrained model"
    keys = {d: ", ".join(c.key for c in verdict.checks if c.direction == d) for d in ("worse", "better")}
    return {
        "less": f"It is less useful than {other} (asked: {keys['worse']}).",
        "more": f"It is more accurate than {other} (asked: {keys['better']}), which is no harm.",
        "alike": f"It is as useful as {other}, as far as could be seen.",
        "could not tell": "",
    }[verdict.useful]


def _advice(verdict: Verdict, instead: str, recorded: bool) -> str:
    """Say what to try next."""
    if verdict.outcome == "nothing was done":
        return "stronger settings of this method, or another one (method auto tries several)"
    if verdict.unfit:
        return "references that were trained as the original was, without the data"
    sides = {c.direction for c in verdict.checks if _about(c)}
    found = []
    if "left" in sides:
        found.append("a method that reaches deeper than this one, or more of it")
    elif "over" in sides:
        found.append("a gentler setting: the aim is how a retrained model answers, not as wrong as possible")
    if verdict.useful == "less":
        found.append("a gentler setting, or training on kept data afterwards")
    if not found and verdict.answer == "could not tell":
        by_level = {
            "a": "a retrained model to compare with (--retrain)",
            "b": "four or more retrained models (efface train --references)",
            "c": "more records, or more retrained models",
        }
        if recorded:
            by_level = {
                "a": "predictions of a model retrained without the data",
                "b": "predictions of four or more models retrained without the data",
                "c": "the models themselves (efface verify): what features hold cannot be seen in answers",
            }
        found.append(by_level[verdict.level])
        if verdict.control is False and instead:
            found.append(instead)
    return "; ".join(found)


def _sentences(verdict: Verdict, telling: Sequence[str] | None) -> Iterator[str]:
    checks = verdict.checks
    yield from (f"{c.question} {c.finding}." for c in checks if c.outcome == "differs")
    alike = [c.key for c in checks if c.outcome == "alike"]
    if alike and verdict.level != "a":
        yield f"No difference in: {', '.join(alike)}."
    if telling == [] and (powerless := [c.key for c in checks if c.told is False]):
        yield f"Without power here: {', '.join(powerless)}."
    if telling:
        yield f"The same questions tell the original from the retrained model by: {', '.join(telling)}."
    yield from (f"Not assessed: {c.question} ({c.finding})" for c in checks if c.outcome == "not assessed")
    if verdict.advice:
        yield f"To try next: {verdict.advice}."
