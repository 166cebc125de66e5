import pytest

from efface import words

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0 %"),
        (1.0, "100.0 %"),
        (0.9734, "97.3 %"),
        (0.0004, "< 0.1 %"),  # a rare event is not "never"
        (0.9996, "> 99.9 %"),  # nor a near certainty "always"
        (-0.012, "−1.2 %"),
    ],
)
def test_shares_are_percent_and_only_an_exact_end_is_printed_as_one(value, text):
    assert words.share(value).replace(NBSP, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000123, "12 µs"),
        (0.0004, "400 µs"),
        (0.0123, "12.3 ms"),
        (0.9999, "1 s"),
        (12.34, "12.3 s"),
        (99.99, "1 min 40 s"),
        (3599.9, "1 h"),
        (7530, "2 h 6 min"),
    ],
)
def test_durations_use_the_unit_that_a_person_would(seconds, text):
    assert words.duration(seconds).replace(NBSP, " ") == text


def test_units():
    texts = [
        words.number(v, u).replace(NBSP, " ")
        for v, u in [(1240, "ratio"), (3, "steps"), (0.125, "nats"), (None, "share")]
    ]
    assert texts == ["1,240×", "3", "0.125 nats", "not assessed"]


def test_plain_numbers_have_three_digits():
    texts = [words.number(v, "number") for v in (1.0, 0.51, -11.04, 12345.6, 0.0, 1e-5)]
    assert texts == ["1.00", "0.510", "−11.0", "12,346", "0", "1e−05"]


def test_an_interval_says_its_unit_once():
    assert words.interval(0.1, 0.2, "share").replace(NBSP, " ") == "10.0 to 20.0 %"
    assert words.interval(0.1, None, "share") == ""
    assert words.interval(0.5, 0.5, "share").replace(NBSP, " ") == "50.0 %"


def test_sentences():
    assert words.sentence("it is so") == "It is so."
    assert words.sentence("Is it?") == "Is it?"
    assert words.sentence("abc", capital=False) == "abc."


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (640 * 1024, "640 KiB"), (12.3 * 2**20, "12.3 MiB"), (1.4 * 2**30, "1.4 GiB")],
)
def test_memory_is_in_the_unit_a_person_would_choose(size, text):
    assert words.number(size, "bytes") == text.replace(" ", "\u00a0")


@pytest.mark.parametrize(("value", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1234, "1,234 images")])
def test_what_is_counted_agrees_with_its_number(value, text):
    assert words.counted(value, "image") == text
    assert words.counted(value, "image is", "images are") == text + (" is" if value == 1 else " are")
