"""An error is one line that any terminal can print."""

import pickle

import pytest

from fewstep.errors import UserError


@pytest.mark.parametrize("sentence", ["Give one.", "", "σ/α is −1, but must be positive — see ‘data’."])
def test_a_sentence_stays_as_it_is(sentence: str) -> None:
    assert str(UserError(sentence)) == sentence


def test_a_message_of_many_lines_becomes_one() -> None:
    assert str(UserError('while parsing\r\n  in "x", line 1\nfound [')) == 'while parsing   in "x", line 1 found ['


def test_of_what_is_very_long_the_middle_is_left_out() -> None:
    message = str(UserError(f"The name {'x' * 10**6} is too long; allowed are 20 letters."))
    assert len(message) <= 1000
    assert message.startswith("The name xxx")
    assert message.endswith("xxx is too long; allowed are 20 letters.")


def test_what_no_encoding_prints_is_escaped() -> None:
    assert str(UserError("The key '\ud800' is unknown.")) == r"The key '\ud800' is unknown."


def test_it_travels_between_processes() -> None:
    assert str(pickle.loads(pickle.dumps(UserError("One.\nTwo.")))) == "One. Two."
