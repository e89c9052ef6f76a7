"""Settings in the units of a configuration become the flags of the model."""

from dataclasses import dataclass

import pytest

from forebay.core.instance import compute_profile, flags_of

PROFILE = compute_profile("H100", "Llama-3-8B", 1)


@dataclass(frozen=True, slots=True)
class Set:
    preemption: str = "recompute"
    swap_gb_per_s: float = 16.0
    batch_delay_us: int = 0
    no_evict: bool = False


def test_settings_named_like_flags_are_taken_and_times_become_picoseconds() -> None:
    flags = flags_of(Set(no_evict=True, batch_delay_us=3), PROFILE)
    assert (flags.no_evict, flags.batch_delay_ps, flags.swap_block_ps) == (True, 3_000_000, 0)


def test_a_swapped_block_takes_its_bytes_over_the_link() -> None:
    flags = flags_of(Set(preemption="swap"), PROFILE)
    assert flags.swap_block_ps == PROFILE.kv_transfer_ps(PROFILE.block_size, 16_000_000_000) > 0
    assert flags_of(Set(preemption="swap", swap_gb_per_s=0.0), PROFILE).swap_block_ps == 0


def test_what_the_flags_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match="preemption"):
        flags_of(Set(preemption="forget"))
