from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import pytest

from forebay.core.values import InferenceRequest
from forebay.scheduler.policy.orderer import ORDERERS
from forebay.scheduler.policy.orderer.autellix import Autellix
from forebay.scheduler.policy.orderer.base import Keys, Orderer, OrderView, Standing
from forebay.scheduler.policy.orderer.dpa import Dpa
from forebay.scheduler.policy.orderer.edf import Edf
from forebay.scheduler.policy.orderer.fcfs import Fcfs
from forebay.scheduler.policy.orderer.forebay import Forebay
from forebay.scheduler.policy.orderer.hrrn import Hrrn
from forebay.scheduler.policy.orderer.ltr import Ltr
from forebay.scheduler.policy.orderer.pf import Pf
from forebay.scheduler.policy.orderer.shortest_predicted import ShortestPredicted
from forebay.scheduler.policy.orderer.ssjf import Ssjf
from forebay.scheduler.policy.orderer.tempo import Tempo
from forebay.scheduler.policy.orderer.vtc import Vtc
from tests.unit.scheduler.kit import frozen

S = 1_000_000
START = 1_795_000_000 * S
NONE = [0] * 9


def view(now_s: float, *rows: tuple[float, int], **columns: Sequence[float]) -> OrderView:
    """Held requests by seconds of arrival and predicted tokens; further columns by name, times in seconds."""
    arrived = [START + round(row[0] * S) for row in rows]
    zeros, tokens = [0] * len(rows), [row[1] for row in rows]
    named: dict[str, Any] = {
        "deadline_us": [one + 60 * S for one in arrived],
        "predicted_tokens": tokens,
        "prompt_tokens": zeros,
        "slo_class": [2] * len(rows),
        "due_us": [one + 60 * S for one in arrived],
        "p90_tokens": tokens,
        "tokens_max": zeros,
        "is_due_whole": zeros,
        "tenant_code": zeros,
        "session_code": zeros,
    }
    if "due_s" in columns:
        named["due_us"] = [START + round(due * S) for due in columns["due_s"]]
    named |= {name: values for name, values in columns.items() if name in named}
    return OrderView(
        now_us=START + round(now_s * S),
        arrived_us=frozen(arrived),
        **{name: frozen(values) for name, values in named.items()},
        rank_score=frozen(columns.get("rank_score", tokens), np.float64),
        requests=[InferenceRequest(f"r{index}", "m", 1) for index in range(len(rows))],
        tenants=standing(columns.get("served", NONE), columns.get("charged", NONE), NONE),
        sessions=standing(columns.get("session_served", NONE), NONE, columns.get("session_waited_s", NONE)),
    )


def standing(served: Sequence[float], charged: Sequence[float], waited_s: Sequence[float]) -> Standing:
    return Standing(
        frozen(served, np.float64), frozen(charged, np.float64), frozen([one * S for one in waited_s], np.float64)
    )


def order(keys: Keys) -> list[int]:
    return list(np.argsort(keys, kind="stable"))


def test_fcfs_ranks_by_arrival_and_by_nothing_else() -> None:
    assert order(Fcfs().rank(view(10, (3, 1), (1, 999), (2, 5)))) == [1, 2, 0]


def test_fcfs_tells_arrivals_a_microsecond_apart() -> None:
    assert order(Fcfs().rank(view(3_600, (0.000002, 1), (0.000001, 1), (0.0, 1)))) == [2, 1, 0]


def test_shortest_predicted_ranks_equal_waits_by_length() -> None:
    assert order(ShortestPredicted().rank(view(10, (1, 300), (1, 20), (1, 100)))) == [1, 2, 0]


def test_without_ageing_a_long_request_waits_for_ever() -> None:
    keys = ShortestPredicted(ageing_tokens_per_s=0).rank(view(10_000, (0, 1_000), (9_999, 10)))
    assert order(keys) == [1, 0]


@pytest.mark.parametrize(("apart_s", "first"), [(19.0, 1), (21.0, 0)])
def test_ageing_lets_a_longer_request_be_overtaken_for_a_bounded_time_only(apart_s: float, first: int) -> None:
    # 1,000 tokens longer at 50 tokens a second: overtaken by those that come within 20 s.
    keys = ShortestPredicted(ageing_tokens_per_s=50).rank(view(100, (0, 1_010), (apart_s, 10)))
    assert order(keys)[0] == first


def test_the_order_of_two_requests_does_not_change_while_they_wait() -> None:
    rows = ((0.0, 700), (5.0, 400), (9.0, 350))
    early, late = (ShortestPredicted().rank(view(now, *rows)) for now in (10.0, 5_000.0))
    assert order(early) == order(late)


def test_shortest_predicted_refuses_negative_ageing() -> None:
    with pytest.raises(ValueError, match="ageing"):
        ShortestPredicted(ageing_tokens_per_s=-1)


def test_edf_ranks_by_what_is_due_first_and_not_by_arrival() -> None:
    assert order(Edf().rank(view(10, (1, 1), (2, 1), (3, 1), due_s=(70, 9, 11)))) == [1, 2, 0]


def test_edf_is_fcfs_where_all_have_the_same_promise() -> None:
    rows = [(3.0, 7), (1.0, 5), (2.0, 9)]
    assert order(Edf().rank(view(9, *rows))) == order(Fcfs().rank(view(9, *rows)))


def test_pf_serves_every_request_of_a_class_before_any_of_the_next() -> None:
    keys = Pf().rank(view(99, (0, 1), (1, 1), (90, 1), (95, 1), slo_class=(3, 2, 1, 1)))
    assert order(keys) == [2, 3, 1, 0]


def test_pf_is_fcfs_in_one_class_to_the_microsecond() -> None:
    keys = Pf().rank(view(80_000, (0.000002, 1), (0.000001, 1), (0.0, 1), slo_class=(3, 3, 3)))
    assert order(keys) == [2, 1, 0]


def test_dpa_ranks_urgent_recent_severe_and_calm_in_this_order() -> None:
    # At 100 s: 60 s left, 20 s late, 3 s left, 4 s late.
    keys = Dpa().rank(view(100, *[(0, 1)] * 4, due_s=(160, 80, 103, 96)))
    assert order(keys) == [2, 3, 1, 0]


@pytest.mark.parametrize(("slack_s", "bucket"), [(-10.1, 2), (-10, 1), (-0.1, 1), (0, 0), (4.9, 0), (5, 3)])
def test_dpa_takes_the_buckets_at_their_bounds(slack_s: float, bucket: int) -> None:
    # Beside one request of each bucket, the one in question stands next to its own.
    keys = Dpa().rank(view(100, *[(0, 1)] * 5, due_s=(101, 99, 80, 160, 100 + slack_s)))
    assert min(range(4), key=lambda index: abs(keys[index] - keys[4])) == bucket


def test_dpa_ranks_by_class_and_then_by_deadline_inside_a_bucket() -> None:
    keys = Dpa().rank(view(100, *[(0, 1)] * 3, due_s=(101, 104, 103), slo_class=(2, 1, 1)))
    assert order(keys) == [2, 1, 0]


def test_dpa_takes_any_order_of_its_buckets() -> None:
    dpa = Dpa(buckets=("calm", "severe", "recent", "urgent"))
    assert order(dpa.rank(view(100, *[(0, 1)] * 4, due_s=(160, 80, 103, 96)))) == [0, 1, 3, 2]
    with pytest.raises(ValueError, match="buckets"):
        Dpa(buckets=("calm", "calm", "recent", "urgent"))


def test_dpa_without_bounds_is_edf_for_what_is_not_late() -> None:
    rows = view(10, *[(0, 1)] * 3, due_s=(70, 9_000, 11))
    assert order(Dpa(urgent_s=1e9).rank(rows)) == order(Edf().rank(rows))


def test_hrrn_ranks_by_waiting_over_service() -> None:
    # Waiting 10, 4 and 1 s for 4.1, 1.1 and 0.3 s of service: ratios 2.4, 3.6 and 3.3.
    keys = Hrrn().rank(view(10, (0, 200), (6, 50), (9, 10)))
    assert keys == pytest.approx([-10 / 4.1, -4 / 1.1, -1 / 0.3])
    assert order(keys) == [1, 2, 0]


def test_hrrn_serves_a_long_request_in_the_end() -> None:
    # A request of 0.3 s that has waited 10 s has a ratio of 33; 20.1 s of service reach it after 670 s.
    short = 10 / 0.3
    assert -Hrrn().rank(view(669, (0, 1_000)))[0] < short < -Hrrn().rank(view(671, (0, 1_000)))[0]


def test_hrrn_is_fcfs_where_all_answers_are_equal() -> None:
    assert order(Hrrn(token_s=0).rank(view(10, (3, 1), (1, 999), (2, 5)))) == [1, 2, 0]


def test_ssjf_ranks_by_a_tenth_of_a_second_and_20_ms_a_token() -> None:
    assert Ssjf().rank(view(3, (0, 1_000), (1, 15), (2, 45))) == pytest.approx([20.1, 0.4, 1.0])


@pytest.mark.parametrize(("tokens", "waited_s"), [(20, 5.01), (9_000, 100.01)])
def test_ssjf_ranks_by_waiting_once_the_longest_waiter_starves(tokens: int, waited_s: float) -> None:
    # 20 tokens are 0.5 s, of which ten times is 5 s; of long ones 100 s are the bound.
    rows = ((0, tokens), (waited_s - 1, 1), (waited_s - 2, 3))
    assert order(Ssjf().rank(view(waited_s, *rows))) == [0, 2, 1]
    assert order(Ssjf().rank(view(waited_s - 0.02, *rows)))[0] == 1


def test_ssjf_without_its_guard_lets_long_requests_starve() -> None:
    assert order(Ssjf(starved_s=inf, starved_ratio=inf).rank(view(9_999, (0, 1_000), (9_998, 10)))) == [1, 0]


def test_ltr_ranks_by_the_predictor_s_score_and_not_by_tokens() -> None:
    assert order(Ltr().rank(view(9, (0, 10), (1, 20), (2, 30), rank_score=(0.5, -3.0, 0.2)))) == [1, 2, 0]


def test_ltr_serves_who_waited_too_long_before_all_others_by_arrival() -> None:
    rows = view(40, (5, 10), (3, 20), (39, 30), rank_score=(1e6, 2e6, -1e6))
    assert order(Ltr(idle_s=30).rank(rows)) == [1, 0, 2]
    assert order(Ltr(idle_s=inf).rank(rows)) == [2, 0, 1]


def test_vtc_serves_the_tenant_with_the_smallest_counter() -> None:
    keys = Vtc().rank(view(9, (0, 1), (1, 1), (2, 1), tenant_code=(1, 2, 1), served=(0, 700, 300)))
    assert order(keys) == [1, 0, 2]
    assert keys[0] == keys[2]


def test_vtc_ahead_counts_running_answers_as_predicted() -> None:
    rows = view(9, (0, 1), (1, 1), tenant_code=(1, 2), served=(0, 700, 300), charged=(0, 800, 900))
    assert order(Vtc().rank(rows)) == [1, 0]
    assert order(Vtc(ahead=True).rank(rows)) == [0, 1]


def test_vtc_is_fcfs_for_one_tenant() -> None:
    keys = Vtc().rank(view(9, (2, 1), (1, 9), tenant_code=(1, 1), served=(0, 700)))
    assert keys[0] == keys[1]


def test_autellix_ranks_by_the_level_of_the_session_s_service() -> None:
    # 150 and 900 units are 1.5 and 9 s: levels 0 and 3; a request without a session is in level 0.
    sessions = {"session_code": (2, 1, 0), "session_served": (0, 150, 900)}
    assert order(Autellix().rank(view(9, (0, 1), (2, 1), (1, 1), **sessions))) == [2, 1, 0]


def test_autellix_enters_a_level_at_its_bound() -> None:
    sessions = {"session_code": (1, 2), "session_served": (0, 200, 199)}
    assert order(Autellix().rank(view(9, (0, 1), (1, 1), **sessions))) == [1, 0]


def test_autellix_promotes_who_waited_long_for_what_its_session_was_served() -> None:
    # 9 s of service and a ratio of 8: due for promotion when the session has waited 72 s, 62 s of them before.
    sessions = {"session_code": (1, 0), "session_served": (0, 900), "session_waited_s": (0, 62)}
    assert order(Autellix().rank(view(9.9, (0, 1), (1, 1), **sessions))) == [1, 0]
    assert order(Autellix().rank(view(10, (0, 1), (1, 1), **sessions))) == [0, 1]


def test_autellix_is_fcfs_where_no_request_names_a_session() -> None:
    assert order(Autellix().rank(view(10, (3, 1), (1, 999), (2, 5)))) == [1, 2, 0]


def test_tempo_ranks_by_worth_a_second() -> None:
    # In time: 100 prompt tokens and 8 times 50 tokens in 1 s, or 8 times 10 tokens in 0.2 s.
    rows = view(1, (0, 50), (0, 10), prompt_tokens=(100, 0))
    assert Tempo().rank(rows) == pytest.approx([-500 / 1.0, -80 / 0.2])


def test_tempo_takes_from_the_worth_of_a_late_answer() -> None:
    # Deferred work of 1 s, due 10 s after it came, ends 20 s after it came: a quarter of 8 times 50 tokens.
    rows = view(19, (0, 50), slo_class=(3,), due_s=(10,), prompt_tokens=(100,))
    assert Tempo().rank(rows) == pytest.approx([-500 / 4])
    assert Tempo(penalty=0).rank(rows) == pytest.approx([-500])


def test_tempo_counts_a_late_first_token_and_a_late_end_by_themselves() -> None:
    # First token promised after 1 s, the last of 50 after 6 s; after 1.98 s of waiting they come at 2 and at 2.98 s.
    rows = view(1.98, (0, 50), slo_class=(1,), due_s=(1,), prompt_tokens=(100,))
    assert Tempo().rank(rows) == pytest.approx([-(100 / 4 + 400)])


def test_tempo_gives_requests_of_one_session_one_density() -> None:
    rows = view(1, (0, 50), (0, 10), (0, 5), prompt_tokens=(100, 0, 0), session_code=(3, 3, 0))
    assert Tempo().rank(rows) == pytest.approx([-580 / 1.2, -580 / 1.2, -400])


def test_forebay_lets_each_wait_for_its_length_and_not_beyond_what_is_due() -> None:
    # 200 ms a token: 2 s and 20 s, of which the promise leaves 9 s; a whole answer due at 50 s must begin at 48 s.
    rows = view(9, (0, 10), (0, 100), (0, 10), due_s=(60, 9, 50), is_due_whole=(0, 0, 1))
    assert (Forebay().rank(rows) - START) / S == pytest.approx([2.0, 9.0, 48.0])


def test_a_tenant_that_is_ahead_is_taken_to_have_come_later_by_its_lead() -> None:
    # 10 tokens may wait 2 s; 150 tokens ahead are 1.5 s more.
    tenants = {"tenant_code": (1, 2), "charged": (0, 400, 250)}
    keys = Forebay().rank(view(9, (0, 10), (1, 10), **tenants))
    assert (keys - START) / S == pytest.approx([3.5, 3.0])
    assert order(Forebay(share_s_per_token=0).rank(view(9, (0, 10), (1, 10), **tenants))) == [0, 1]


def test_a_lead_costs_no_more_than_the_time_that_was_promised() -> None:
    tenants = {"tenant_code": (1, 2), "charged": (0, 1e9, 0)}
    keys = Forebay().rank(view(9, (0, 10), (1, 10), due_s=(5, 6), **tenants))
    assert (keys - START) / S == pytest.approx([7.0, 3.0])


def test_every_orderer_gives_one_finite_key_a_request_and_ranks_in_any_order_alike() -> None:
    rng = np.random.default_rng(5)
    count = 60
    rows = [(float(rng.uniform(0, 90)), int(rng.integers(0, 900))) for _ in range(count)]
    columns: Mapping[str, Any] = {
        "slo_class": rng.integers(1, 4, count),
        "due_s": rng.uniform(0, 400, count),
        "prompt_tokens": rng.integers(1, 900, count),
        "tenant_code": rng.integers(0, 4, count),
        "session_code": rng.integers(0, 4, count),
        "rank_score": rng.normal(size=count),
    }
    alike = {"served": (0, 9, 5, 7), "charged": (0, 2, 8, 1), "session_served": (0, 600, 90, 3_000)}
    alike["session_waited_s"] = (0, 3, 900, 20)
    turned = {name: values[::-1] for name, values in columns.items()}
    for name, orderer in ORDERERS.items():
        keys = orderer().rank(view(100, *rows, **columns, **alike))
        assert keys.shape == (count,), name
        assert np.isfinite(keys).all(), name
        assert list(keys) == pytest.approx(list(orderer().rank(view(100, *rows[::-1], **turned, **alike))[::-1])), name


@pytest.mark.parametrize(
    ("orderer", "parameters"),
    [
        (Dpa, {"severe_s": -1.0}),
        (Hrrn, {"fixed_s": 0.0}),
        (Ssjf, {"starved_s": 0.0}),
        (Ssjf, {"token_s": -1.0}),
        (Ltr, {"idle_s": 0.0}),
        (Autellix, {"levels_s": (4.0, 2.0)}),
        (Autellix, {"starved_ratio": 0.0}),
        (Tempo, {"step_s": 0.0}),
        (Tempo, {"penalty": -1.0}),
        (Forebay, {"share_s_per_token": -1.0}),
    ],
)
def test_parameters_that_make_no_sense_are_refused(orderer: type[Orderer], parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        orderer(**parameters)
