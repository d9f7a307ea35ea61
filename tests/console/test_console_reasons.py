from console.rejection_texts import REASONS, in_words
from ingest.message import Reason


def test_every_reason_has_words_that_end_a_sentence() -> None:
    assert REASONS.keys() == {reason.value for reason in Reason}
    assert all(words.endswith(".") for words in REASONS.values())


def test_what_has_no_words_stands_for_itself() -> None:
    assert (in_words("NOVEL"), in_words(None)) == ("NOVEL", "")
