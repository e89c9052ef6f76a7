from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.policy.autoscaler.base import Needs
from forebay.autoscaler.pressures import Pressures, is_asked
from forebay.core.pressure import Demand, InstancePressure, Pressure, WaitingGroup
from forebay.core.values import SloClass

S = 1_000_000
AGE_US = 10 * S
FAST = SloClass.INTERACTIVE_FAST


def demand(count: int, model: str = "m", region: str = "local") -> Demand:
    return Demand(model, region, FAST, count, 10 * count, 2.5 * count)


def says(*parts: Demand | InstancePressure | WaitingGroup, at_us: int = S) -> Pressure:
    return Pressure(
        at_us,
        100,
        tuple(one for one in parts if isinstance(one, InstancePressure)),
        tuple(one for one in parts if isinstance(one, Demand)),
        tuple(one for one in parts if isinstance(one, WaitingGroup)),
    )


def test_one_replica_is_taken_at_its_word() -> None:
    said = says(
        InstancePressure("a/m", 1, 2, 0.3, 0.1, 4, 5.0, 6),
        demand(3),
        demand(1, "n"),
        WaitingGroup("m", "", FAST, 9, 8, 1),
    )
    made = Pressures(AGE_US)
    made.hear("0", said, S)
    assert made.united(S) == said


def test_nobody_says_nothing() -> None:
    assert Pressures(AGE_US).united(S) is None


def test_replicas_of_different_models_stand_side_by_side() -> None:
    made = Pressures(AGE_US)
    groups = [WaitingGroup(model, "local", FAST, 9, 8, 1) for model in "nm"]
    made.hear("0", says(InstancePressure("a/n", 1), demand(3, "n"), groups[0], at_us=S), S)
    made.hear("1", says(InstancePressure("b/m", 2), demand(4, "m"), groups[1], at_us=2 * S), 2 * S)
    united = says(
        InstancePressure("a/n", 1), InstancePressure("b/m", 2), demand(4, "m"), demand(3, "n"), *groups, at_us=2 * S
    )
    assert made.united(2 * S) == united


def test_what_two_replicas_have_put_on_one_instance_adds_up() -> None:
    made = Pressures(AGE_US)
    made.hear("0", says(InstancePressure("a/m", 1, 0, 0.25, 0.9, 10, 100.0, 64), demand(1)), S)
    made.hear("1", says(InstancePressure("a/m", 3, 2, 0.5, 0.2, 20, 300.0, 32), demand(5)), S)
    assert made.united(S) == says(InstancePressure("a/m", 4, 2, 0.75, 0.2, 30, 400.0, 32), demand(6))


def test_a_silent_replica_keeps_its_word_for_a_while_and_its_arrivals_for_ever() -> None:
    made = Pressures(AGE_US)
    waiting = WaitingGroup("m", "local", FAST, 9, 8, 1)
    made.hear("0", says(InstancePressure("a/m", 1), waiting, demand(3)), S)
    made.hear("1", says(InstancePressure("b/n", 2), demand(4, "n")), S)
    made.hear("1", says(InstancePressure("b/n", 3), demand(5, "n"), at_us=11 * S), 11 * S)
    before = made.united(S + AGE_US)
    assert before == says(
        InstancePressure("a/m", 1), InstancePressure("b/n", 3), waiting, demand(3), demand(5, "n"), at_us=11 * S
    )
    assert made.united(S + AGE_US + 1) == says(InstancePressure("b/n", 3), demand(3), demand(5, "n"), at_us=11 * S)
    assert made.united(11 * S + AGE_US + 1) is None


def test_a_replica_that_begins_anew_takes_nothing_back() -> None:
    made = Pressures(AGE_US)
    totals, united = [], says()
    for counts in ({"m": 5, "n": 2}, {}, {"m": 1}, {"m": 2, "n": 1}, {"m": 1, "n": 1}):
        made.hear("0", says(*(demand(count, model) for model, count in counts.items())), S)
        united = made.united(S) or says()
        totals.append({one.model: one.request_count for one in united.demands})
    assert totals == [{"m": 5, "n": 2}, {"m": 5, "n": 2}, {"m": 6, "n": 2}, {"m": 7, "n": 3}, {"m": 8, "n": 3}]
    assert united.demands[0] == demand(8)


def test_only_who_wants_to_know_asks() -> None:
    config, several = Config(), Config(models=(ModelConfig("m"), ModelConfig("m", "m-west")))
    assert not is_asked(Needs(history_us=S, forecast_window_us=S, forecast_count=3), config)
    assert is_asked(Needs(pressure=True), config)
    assert is_asked(Needs(by_demand=True), config)
    assert is_asked(Needs(), several)
