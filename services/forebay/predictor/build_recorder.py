"""Puts together what keeps outcomes for training and learning over a restart; called by the composition root alone."""

from prometheus_client import CollectorRegistry

from forebay import sql
from forebay.predictor.config import Config
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.lengths.keeper import Keeper, Pace
from forebay.predictor.lengths.recorder import Limits, Recorder
from forebay.predictor.store_sql import SqlExampleStore, SqlSnapshotStore
from forebay.wire.clock import Clock


def build_recorder(config: Config, database_url: str, clock: Clock, registry: CollectorRegistry) -> Recorder | None:
    """What keeps outcomes for training; None where the configuration keeps none."""
    if not config.examples_max:
        return None
    limits = Limits(config.examples_max, config.examples_age_s, config.examples_queue_max)
    return Recorder(lambda: SqlExampleStore(sql.open_engine(database_url)), limits, clock, registry)


def build_keeper(
    config: Config, database_url: str, wait_s: float, engine: PredictorEngine, clock: Clock
) -> Keeper | None:
    """What keeps learning over a restart; None where the configuration keeps none.

    A database that starts beside it is waited for: what was learnt before is needed from the first answer on.
    """
    if not config.snapshot_s:
        return None
    pace = Pace(config.snapshot_s, config.snapshot_age_s)
    return Keeper(lambda: SqlSnapshotStore(sql.open_engine(database_url, wait_s)), engine, pace, clock)
