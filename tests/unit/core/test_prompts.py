from hypothesis import given
from hypothesis import strategies as st

from forebay.core.prompts import excerpt, group_of, prefix_hashes, substance


def test_case_and_blanks_make_no_other_prompt() -> None:
    assert group_of("Write  a\npoem ") == group_of("write a poem")
    assert group_of("write a poem") != group_of("write two poems")


def test_a_sentence_to_translate_is_one_prompt_in_every_language() -> None:
    assert group_of("Translate from en to de: Good morning") == group_of("Translate from en to fr: Good morning")
    assert substance("Note: translate this") == "note: translate this"
    assert substance("Translate: ") == "translate:"


def test_groups_are_the_same_in_every_run() -> None:
    assert group_of("hello") == 6042553977968695870


@given(st.text())
def test_any_text_has_a_group_that_fits_a_signed_number(text: str) -> None:
    assert 0 <= group_of(text) < 2**63


def test_lone_surrogates_are_grouped_too() -> None:
    assert group_of("a\ud800b") >= 0


def test_a_salt_makes_groups_that_others_cannot_tell() -> None:
    assert group_of("hello", b"one") != group_of("hello", b"other")
    assert group_of("hello", b"one") == group_of(" Hello", b"one")


@given(text=st.text(max_size=40), bytes_max=st.integers(0, 60))
def test_an_excerpt_fits_and_is_head_and_tail_of_the_text(text: str, bytes_max: int) -> None:
    part, data = excerpt(text, bytes_max), text.encode()
    assert len(part.encode()) <= bytes_max
    if len(data) <= bytes_max:
        assert part == text
    else:
        head = data[: bytes_max // 2].decode(errors="ignore")
        tail = data[len(data) - (bytes_max - bytes_max // 2) :].decode(errors="ignore")
        assert part == head + tail


def test_an_excerpt_of_half_a_surrogate_is_still_text() -> None:
    assert excerpt("a\ud800b", 10) == "a?b"


def test_prompts_that_begin_alike_have_names_in_common_as_far_as_they_do() -> None:
    head = "You are a helpful assistant. " * 100
    one, other = prefix_hashes(head + "Translate this."), prefix_hashes(head + "Summarise that.")
    assert len(one) == 3
    assert one[:2] == other[:2]
    assert one[2] != other[2]


def test_a_block_s_name_covers_all_before_it() -> None:
    assert prefix_hashes("a" * 2_048)[1] != prefix_hashes("b" * 1_024 + "a" * 1_024)[1]


@given(st.text(max_size=5_000))
def test_there_is_a_name_for_every_block_of_a_text_that_has_a_whole_one(text: str) -> None:
    size = len(text.encode(errors="replace"))
    names = prefix_hashes(text)
    assert len(names) == (-(-size // 1_024) if size >= 1_024 else 0)
    assert all(0 <= name < 2**64 for name in names)


def test_a_prompt_of_a_megabyte_has_no_more_names_than_the_contract_takes() -> None:
    assert len(prefix_hashes("é" * 2_000_000)) == 1_024
