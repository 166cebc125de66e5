import re
from itertools import pairwise

import pytest

from efface import words
from efface.auditing.catalogue import MEASURES
from efface.auditing.scores import written
from efface.data.counts import Counts
from efface.report import html
from tests.pages import Page


@pytest.fixture(scope="module")
def page():
    from tests.report.conftest import build

    return Page(html(build(drawn=True)))


def test_the_verdict_is_the_audits(make_audit):
    for level in "abc":
        for outcome in ("alike", "differs", "not assessed"):
            audit = make_audit(level, outcome)
            (attributes, text), *more = Page(html(audit)).of("section", id="verdict")
            assert not more
            assert (attributes["data-verdict"], attributes["data-level"]) == (outcome, level)
            assert audit.verdict.headline in text


def test_a_level_without_references_never_looks_like_a_pass(make_audit):
    page = Page(html(make_audit("a", "not assessed")))
    (attributes, text), *_ = page.of("section", id="verdict")
    assert "alike" not in attributes["class"]
    assert "No difference" not in text
    assert any(t.startswith("(a)") for a, t in page.of("li", **{"aria-current": "true"}))
    assert "never confirm forgetting" in html(make_audit("a"))


def test_class_names_rows_and_reasons_stay_text(make_audit, record):
    evil = "<script>alert(1)</script>"
    names = ("zero", evil, '"><img src=x onerror=alert(1)>')
    base = make_audit()
    rows = [row.model_copy(update={"name": evil}) if row.name == "fine-tuned" else row for row in base.rows]
    request = {"classes": [evil], "reason": f"{evil} ' onload='x", "requested_at": evil}
    audit = make_audit(
        names=names, rows=rows, request=request, request_text=f"class {evil}", notes=(evil,), limits=(evil,)
    )
    noted = record.model_copy(update={"notes": (evil,), "settings": {evil: evil}, "device": evil})
    page = Page(html(audit, noted))
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _, _ in page.elements}
    assert not [k for _, attributes, _ in page.elements for k in attributes if k.startswith("on")]
    (_, heading), *_ = page.of("h1")
    assert heading == f"Asked to forget: class {evil}"


def test_nothing_is_fetched(page):
    links = [v for _, a, _ in page.elements for k, v in a.items() if k in {"href", "src", "xlink:href", "action"}]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    text = html_of(page)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def html_of(page) -> str:
    return " ".join("".join(texts) for tag, _, texts in page.elements if tag == "style")


def test_ids_are_unique_and_references_lead_somewhere(page):
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    targets = [a["href"][1:] for t, a, _ in page.elements if t == "a"]
    named = [i for _, a, _ in page.elements for i in a.get("aria-labelledby", "").split()]
    assert set(targets + named) <= set(ids)


def test_the_page_can_be_read_without_eyes_or_mouse(page):
    assert page.of("html")[0][0]["lang"] == "en"
    assert page.elements[[t for t, _, _ in page.elements].index("a")][1]["class"] == "skip"
    assert [len(page.of(tag)) for tag in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
    levels = [int(t[1]) for t, _, _ in page.elements if re.fullmatch("h[1-6]", t)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    figures = page.of("svg", role="img")
    assert len(figures) == 7
    hidden = page.of("svg", **{"aria-hidden": "true"})
    assert len(figures) + len(hidden) == len(page.of("svg"))
    assert all("scope" in a for a, _ in page.of("th"))
    scrolling = [a for a, _ in page.of("div", **{"class": "scroll"})]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    assert len(page.of("summary")) == len(page.of("details")) > 0


def test_the_table_holds_every_models_numbers(audit):
    body = html(audit).split('id="rows"')[1].split("</table>")[0]
    for row in audit.rows:
        for key in ("retain_accuracy", "forget_accuracy", "test_accuracy", "test_forget_accuracy"):
            score = row[key]
            ends = words.interval(score.low, score.high, "share")
            assert f'>{words.number(score.value, "share")}<span class="ci">{ends}<' in body
    floor = written.floor(audit.row("mnemonic")["test_accuracy"], MEASURES["test_accuracy"])
    assert floor in body.split('class="floor"')[1]


def test_four_numbers_stand_beside_their_floors(make_audit):
    cards = html(make_audit("c")).split('<ul class="keys">')[1].split("</ul>")[0].split("<li>")[1:]
    assert len(cards) == 4
    for card, key in zip(cards, ("test_forget_accuracy", "test_accuracy", "rmia_auc", "probe_recall"), strict=True):
        score = make_audit("c").row("mnemonic")[key]
        for text in (words.number(score.value, "share"), written.floor(score, MEASURES[key])):
            assert text in card, (key, text)
    one = html(make_audit("b")).split('<ul class="keys">')[1].split("</ul>")[0]
    assert one.count("not known") == 4


def test_what_was_not_measured_is_named_and_never_a_number(audit):
    text = html(audit)
    section = text.split('id="not-assessed"')[1].split("</ul>")[0]
    assert "needs many models" in section
    for key in ("lira_accuracy", "lira_auc", "rmia_tpr"):
        assert MEASURES[key].title.replace("&", "&amp;") in section


def test_the_chain_is_told_with_seeds_settings_and_hashes(audit, record):
    text = html(audit, record)
    for fact in ("lambda_1: 0.5", "lambda_2: 0.25", "lr: 0.0625", "a" * 64, "b" * 64, "c" * 64, "torch: 2.13.0", "77"):
        assert fact in text
    assert "Searched without data." in text
    assert 'class="warn"' not in text


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"weights_before": "0" * 64}, "Step 2 does not start from the weights"),
        ({"request_fingerprint": "0" * 64}, "not the one that was audited"),
    ],
)
def test_a_record_that_does_not_fit_is_said_to(audit, record, change, warning):
    assert warning in html(audit, record.model_copy(update=change))


def test_exposed_records_have_ids_and_both_directions(audit):
    section = html(audit).split('id="records"')[1].split("</section>")[0]
    assert all(text in section for text in ("4711", "815", "known better", "rejected more", "−9.5"))


def test_records_are_called_what_the_data_calls_them_and_shown_as_text(audit, record):
    name = "train/<b>cat</b>/0017.jpg"
    named = audit.model_copy(update={"exposed": (audit.exposed[0].model_copy(update={"name": name}),)})
    counts = Counts(asked=25, found=25, forgotten=25)
    ids = tuple(f"train/{i}.jpg" for i in range(25))
    text = html(named, record.model_copy(update={"action": "forget", "forgotten_ids": ids, "counts": counts}))
    section = text.split('id="records"')[1].split("</section>")[0]
    assert "train/&lt;b&gt;cat&lt;/b&gt;/0017.jpg" in section
    assert "4711" in section
    assert "<b>cat" not in text
    how = text.split('id="how"')[1].split("</section>")[0]
    assert "train/19.jpg and 5 more (record.json)" in how


def test_it_is_light_and_the_same_each_time(make_audit, record):
    audit = make_audit(drawn=True)
    first = html(audit, record)
    assert first == html(audit, record)
    assert len(first.encode()) < 1_500_000


def test_a_hundred_classes_are_light_too(make_audit):
    names = tuple(f"class number {i}" for i in range(100))
    text = html(make_audit(drawn=True, names=names))
    assert len(text.encode()) < 1_500_000
    assert "Of 100 classes these 20: the forgotten ones" in text
    assert len(Page(text).of("th", scope="row")) < 200


def test_a_cut_confusion_table_says_so_and_keeps_all_records(make_audit):
    names = tuple(f"class number {i}" for i in range(1000))
    audit = make_audit(drawn=True, names=names)
    shown = (0, 1, 500, 999)
    table = tuple(tuple(10 * i + j for j in range(5)) for i in range(5))
    plots = audit.plots.model_copy(
        update={"confusion": dict.fromkeys(audit.plots.confusion, table), "confusion_classes": shown}
    )
    text = html(audit.model_copy(update={"plots": plots}))
    assert "Of 1,000 classes these 4: the forgotten ones" in text
    heads = [said for _, said in Page(text).of("th", scope="col")]
    assert [h for h in heads if h.startswith("answered ")] == [
        *(f"answered {names[c]}" for c in shown), "answered all others",
    ]  # fmt: skip


def test_item_requests_show_no_numbers_of_forgotten_classes(make_audit):
    audit = make_audit(forget_classes=(), request={"items": [1, 2]}, request_text="2 items")
    cards = html(audit).split('<ul class="keys">')[1].split("</ul>")[0]
    assert MEASURES["forget_accuracy"].title in cards
    assert MEASURES["test_forget_accuracy"].title not in cards
    assert "New head" not in cards


def test_colours_of_text_have_enough_contrast(page):
    """WCAG 2 AA: 4.5 for text, here on white and on the shade of the candidate's column."""
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", html_of(page)))
    assert {"soft", "faint", "blue", "good", "bad", "open"} <= set(colours)
    for name in ("soft", "faint", "blue", "good", "bad", "open"):
        for ground in ("#ffffff", "#eaf3f9"):
            light, dark = sorted((luminance(colours[name]), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_first_screen_counts_what_was_asked_for_and_the_counts_add_up(audit, record):
    counts = Counts(asked=40, found=38, forgotten=36, untrained=2, in_test=1, repeated=1)
    text = " ".join(html(audit, record.model_copy(update={"counts": counts})).split())
    assert (
        "40 records asked for: 36 to forget, 2 never trained on (held out), 1 in the test set, never trained on, "
        "1 named more than once"
    ) in text


def test_every_request_so_far_has_a_line(make_audit, sequence):
    assert not Page(html(make_audit())).of("section", id="sequence")
    page = Page(html(make_audit(sequence=sequence)))
    (_, text), *_ = page.of("section", id="sequence")
    for shown in ("1. group secret-group", "98.0 %", "2. class <b>7</b>", "87.0 %", "3. class 1", "Is it gone?"):
        assert shown in text
    (_, verdict), *_ = page.of("section", id="verdict")
    assert "no difference found: 2; no: 1" in verdict
    assert page.of("a", href="#sequence")


def test_steps_come_from_the_record_where_the_audit_kept_none(make_audit, record):
    rows = tuple({"stage": "decay", "step": i, "forget_accuracy": 0.5**i} for i in range(3))
    audit = make_audit(plots={"history": ()})
    with_steps = record.model_copy(update={"history": rows})
    assert "Forgetting step by step" not in html(audit, record.model_copy(update={"history": ()}))
    assert "Forgetting step by step" in html(audit, with_steps)
    (line,) = audit.figures(with_steps)["steps"].axes[0].lines
    assert line.get_ydata().tolist() == [1, 0.5, 0.25]


def test_without_a_record_it_is_a_model_that_is_named_and_no_method(audit, record):
    assert "<dt>Method</dt><dd>mnemonic</dd>" in html(audit, record)
    assert "<dt>Model</dt><dd>mnemonic</dd>" in html(audit)
    assert "<dt>Method</dt>" not in html(audit)
