"""Puts together what keeps outcomes for training; called by the composition root alone."""

from prometheus_client import CollectorRegistry

from forebay import sql
from forebay.predictor.config import Config
from forebay.predictor.recorder import Limits, Recorder
from forebay.predictor.store_sql import SqlExampleStore
from forebay.wire.clock import Clock


def build_recorder(config: Config, database_url: str, clock: Clock, registry: CollectorRegistry) -> Recorder | None:
    """What keeps outcomes for training; None where the configuration keeps none."""
    if not config.examples_max:
        return None
    limits = Limits(config.examples_max, config.examples_age_s, config.examples_queue_max)
    return Recorder(lambda: SqlExampleStore(sql.open_engine(database_url)), limits, clock, registry)
