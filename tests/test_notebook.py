"""What a notebook shows."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

from efface.data import load
from efface.notebook import card
from efface.request import Request


class Tags(HTMLParser):
    """Every element of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def test_no_text_becomes_markup():
    bad = "<script>alert(1)</script> & <img src=x>"
    page = card(bad, {bad: bad}, [[bad, bad], [bad, bad]])
    assert Tags(page).found == {"div", "b", "br", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.count("&lt;script&gt;") == 7


def test_empty_facts_are_left_out():
    assert card("a", {"b": "", "c": "d"}) == "<div><b>a</b><br>c: d</div>"


def test_requests_and_data_show_themselves_shortly_and_escaped():
    assert repr(Request(classes=[3], reason="why")) == "Request(classes=(3,), reason='why')"
    many = repr(Request(items=range(1000)))
    assert many == "Request(items=(0, 1, 2, ... 1,000 of them))"
    assert "<b>forget group &lt;i&gt;</b>" in Request(groups=["<i>"])._repr_html_()
    data = dataclasses.replace(load("digits"), classes=("<hr>", *map(str, range(9))))
    assert len(repr(data)) < 300
    assert "1,347 for training" in repr(data)
    assert Tags(data._repr_html_()).found == {"div", "b", "br"}
