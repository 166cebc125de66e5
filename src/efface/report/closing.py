"""The four answers of the first screen: was it forgotten, is it useful, may the request be closed, what comes next?"""

from __future__ import annotations

from typing import Literal, NamedTuple

from efface import words
from efface.artifact.record import Record
from efface.auditing.checks import USEFULNESS
from efface.auditing.result import Audit
from efface.auditing.verdict import ANSWERS_ONLY
from efface.report.contents import breaks
from efface.words import counted

__all__ = ["Answer", "answers", "may_be_closed"]

Tone = Literal["alike", "differs", "not assessed"]


class Answer(NamedTuple):
    """One question of whoever has to sign, answered.

    Attributes:
        question: In plain words.
        short: The answer in a few.
        rest: What it rests on, in a sentence or two.
        tone: Of its colour and mark.
    """

    question: str
    short: str
    rest: str
    tone: Tone


def answers(audit: Audit, record: Record | None = None) -> tuple[Answer, ...]:
    """Return the four answers, in the order in which they are asked.

    Args:
        audit: What was measured.
        record: How the candidate came to be; None if that is not known.
    """
    return _forgotten(audit), _useful(audit), may_be_closed(audit, record), _next(audit, record)


def _forgotten(audit: Audit) -> Answer:
    question, verdict = "Was it forgotten?", audit.verdict
    about = [c for c in verdict.checks if c.key not in USEFULNESS]
    asked, differing = len(about), [c for c in about if c.outcome == "differs"]
    if verdict.outcome == "nothing was done":
        return Answer(question, "No, nothing was done", "The new model's weights are the old one's.", "differs")
    if verdict.answer == "no":
        meant = {
            "left": "The model still knows something of it.",
            "over": "The model rejects it more than a model would that never saw it, which gives it away as well.",
            "unlike": "The model is not what training without it would give.",
        }
        said = [text for side, text in meant.items() if any(c.direction == side for c in differing)]
        return Answer(question, "No", " ".join([_of(len(differing), asked, "found a difference"), *said]), "differs")
    if back := [str(one.step) for one in audit.sequence if one.answer == "no"]:
        which = f"request{'s' * (len(back) != 1)} {', '.join(back)}"
        return Answer(question, "Not all of it", f"Asked about again, a difference was found for {which}.", "differs")
    if verdict.answer == "no difference found":
        tell = _of(sum(c.outcome == "alike" for c in about), asked, "could have found something and did not")
        return Answer(question, "No difference from retraining found", tell, "alike")
    return Answer(question, "Could not tell", _why_not(audit), "not assessed")


def _of(some: int, asked: int, what: str) -> str:
    return f"{some} of {counted(asked, 'question')} about it {what}."


def _why_not(audit: Audit) -> str:
    """Say why an audit that found nothing shows nothing."""
    verdict = audit.verdict
    if verdict.unfit:
        return words.sentence(verdict.unfit)
    if audit.level == "a":
        return "There was no model trained without it to compare with."
    if verdict.control is False:
        return "Even the model before forgetting cannot be told from one that never saw it."
    if audit.answers_only:
        return ANSWERS_ONLY
    open_ = sum(c.outcome == "not assessed" and c.key not in USEFULNESS for c in verdict.checks)
    return f"{open_} question{'s' * (open_ != 1)} about it could not be answered."


def _useful(audit: Audit) -> Answer:
    question, verdict = "Is it still useful?", audit.verdict
    other = "a retrained model" if audit.reference is not None else "the original"
    short, tone = {
        "alike": (f"Yes, as useful as {other}", "alike"),
        "more": (f"Yes, more accurate than {other}", "alike"),
        "less": (f"Less than {other}", "differs"),
        "could not tell": ("Could not tell", "not assessed"),
    }[verdict.useful]
    said = "It was not measured on unseen records."
    if audit.measures.get("test_accuracy") and (score := audit.row(audit.candidate).scores.get("test_accuracy")):
        beside = score.reference if audit.reference is not None else score.original
        if score.value is not None:
            kept = " of the kept classes" if audit.forget_classes else ""
            than = f"; {other}: {words.share(beside)}" if beside is not None else ""
            said = f"Right on {words.share(score.value)} of unseen records{kept}{than}."
    return Answer(question, short, said, tone)  # type: ignore[arg-type]  # one of the four lines above


def may_be_closed(audit: Audit, record: Record | None = None) -> Answer:
    """Return whether the request may be closed on this evidence, and under which reservations."""
    question, verdict = "May this request be closed?", audit.verdict
    if record is not None and (wrong := breaks(audit, record)):
        return Answer(question, "No", f"The record and this audit do not belong together. {' '.join(wrong)}", "differs")
    if record is not None and record.failures:
        return Answer(question, "No", f"The method failed: {words.sentence(record.failures[0], False)}", "differs")
    if audit.answer == "no":
        return Answer(question, "Not with this model", "An audit found what forgetting should have removed.", "differs")
    if audit.answer == "could not tell":
        return Answer(
            question, "Not on this evidence", "Nothing wrong was found, and nothing was shown.", "not assessed"
        )
    said = ["It takes a person's decision, once the old model and other copies are dealt with."]
    if audit.level == "b":
        said.append("The noise between retrained models is not known here; four or more would tell.")
    if record is None:
        said.append("How this model was made is not recorded.")
    if verdict.useful == "less":
        said.append("Whether a less useful model may be put to use is another question.")
    return Answer(question, "Yes, as far as this audit can see", " ".join(said), "alike")


def _next(audit: Audit, record: Record | None) -> Answer:
    question = "What to do next?"
    closing = may_be_closed(audit, record)
    if closing.tone == "alike" and audit.verdict.useful != "less":
        rest = "Put this model in the old one's place, deal with the copies, and answer the person; both are below."
        return Answer(question, "Replace, delete, answer", rest, "alike")
    if record is not None and breaks(audit, record):
        rest = "Audit the folder again: the record, the request and the data have to be those of one forgetting."
        return Answer(question, "Audit again", rest, "differs")
    advice = audit.verdict.advice or "another method (method auto tries several), or retraining without the data"
    short = "Forget again" if closing.tone == "differs" else "Audit again"
    if closing.tone == "alike":
        short = "Decide, or forget again"
    return Answer(question, short, f"Try {words.sentence(advice, False)}", closing.tone)
