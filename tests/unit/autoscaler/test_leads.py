"""How long starts take is measured by pool, survives a restart, and is forgotten when it is old."""

from dataclasses import replace

from forebay.autoscaler.actions import Start
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.policy.autoscaler.static import Static
from forebay.core.fleet import FleetState, StartTime

S = 1_000_000
CONFIG = Config(
    policy="static",
    lead_age_s_max=1_000.0,
    models=(
        ModelConfig(name="m", instances_max=2, start_s=60.0),
        ModelConfig(name="m", pool="far", region="far", instances_max=2, start_s=90.0),
        ModelConfig(name="never", instances_min=0, instances_max=0, instances_initial=0),
    ),
)


def started(took_s: int) -> Engine:
    """An engine whose pools had one start each that took so long, the last third of it with a server that answers."""
    engine = Engine(CONFIG, Static(), FleetState(), 0)
    for action in [one for one in engine.on_tick(Forecasts(), 0) if isinstance(one, Start)]:
        key = action.instance.instance_id
        engine.on_actuated(key, replace(action.instance, grpc_address="127.0.0.1:1"), S)
        engine.on_probe(key, True, False, took_s * 2 // 3 * S)
        engine.on_probe(key, True, True, took_s * S)
    return engine


def test_before_the_first_start_the_configured_time_holds_and_a_model_has_that_of_its_fastest_pool() -> None:
    assert Engine(CONFIG, Static(), FleetState(), 0).leads() == {"m": 60 * S}


def test_a_start_is_measured_until_requests_are_taken_and_until_its_server_answers() -> None:
    engine = started(30)
    assert engine.settings.starts["m"] == (StartTime(30 * S, 30 * S, 20 * S),)
    assert engine.leads() == {"m": 30 * S}


def test_what_was_measured_survives_a_restart() -> None:
    engine = Engine(CONFIG, Static(), FleetState(started(30).settings), 40 * S)
    assert engine.leads() == {"m": 30 * S}
    assert {one.pool or one.model: one.lead_p90_us for one in engine.models()}["far"] == 30 * S


def test_old_starts_are_forgotten() -> None:
    engine = started(30)
    engine.on_tick(Forecasts(), 1_030 * S)
    assert engine.leads() == {"m": 30 * S}
    engine.on_tick(Forecasts(), 1_031 * S)
    assert engine.leads() == {"m": 60 * S}
    assert not engine.settings.starts
