from __future__ import annotations

from mlxserve.pipeline.cargo import Cargo, Source

HIDDEN = [Source(call, "0") for call in range(4)]


def plain(*more: tuple[Source, int], given: dict[int, dict[str, Source]] | None = None) -> Cargo:
    """Of four calls, each of which uses what the one before returned, and `more` sources with their last uses."""
    uses = {source: source.call + 1 for source in HIDDEN}
    return Cargo([f"form {call}" for call in range(4)], uses | dict(more), given or {})


def test_a_plain_hidden_state_alone_travels() -> None:
    cargo = plain()
    assert [cargo.across(cut) for cut in range(1, 5)] == [[source] for source in HIDDEN]
    assert cargo.leaving(2) == [HIDDEN[2]]
    assert cargo.returned(2) == "form 2"


def test_nothing_travels_before_the_first_call() -> None:
    assert plain().across(0) == []


def test_what_a_late_call_reads_travels_across_every_cut_on_the_way() -> None:
    shared = Source(0, "1")
    cargo = plain((shared, 3))
    assert [shared in cargo.across(cut) for cut in range(5)] == [False, True, True, True, False]
    assert cargo.leaving(0) == [HIDDEN[0], shared]


def test_what_was_made_from_the_tokens_travels_from_rank_0_on() -> None:
    made = Source(2, "per_layer_input", is_given=True)
    cargo = plain((made, 2), given={2: {"per_layer_input": made}})
    assert [made in cargo.across(cut) for cut in range(5)] == [False, True, True, False, False]
    assert made not in cargo.leaving(2)
    assert cargo.given(2) == {"per_layer_input": made}
    assert cargo.given_first(2) == [made]
    assert cargo.given(1) == {}
