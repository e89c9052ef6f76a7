"""Checks an arm before anything runs: every table by its own service's configuration, every policy by its name."""

from collections.abc import Callable, Mapping

from forebay.autoscaler.config import Config as AutoscalerConfig
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.gateway.config import Config as GatewayConfig
from forebay.predictor.config import Config as PredictorConfig
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.simulator.config import PolicyConfig
from forebay.simulator.oracles.predictor import build_predictor
from forebay.simulator.parts import NO_PREDICTOR, autoscaler_of, policies_of
from forebay.simulator.workload import make_workload

_ONE_REQUEST = make_workload([0], [1], [1])
"""What an oracle is made with to see whether it takes its parameters."""


def check_arm(policy: PolicyConfig, where: str) -> None:
    """Raises ConfigError for what a service would refuse; its `violations` have paths below `where`."""
    checks: tuple[tuple[str, Callable[[Mapping[str, object]], None], Mapping[str, object]], ...] = (
        ("scheduler", _scheduler, policy.scheduler),
        ("autoscaler", _autoscaler, policy.autoscaler),
        ("predictor", _predictor, policy.predictor),
        ("gateway", _gateway, policy.gateway),
    )
    for part, check, table in checks:
        try:
            check(table)
        except ConfigError as error:
            below = next((path for path in error.violations if path.split(".")[0] == part), part)
            text = f"policy {policy.name!r}: {error.message}"
            raise ConfigError(text, violations={f"{where}.{below}": text}) from error


def _scheduler(table: Mapping[str, object]) -> None:
    policies_of(from_mapping(SchedulerConfig, table, "scheduler"))


def _autoscaler(table: Mapping[str, object]) -> None:
    if "servers" in table:
        text = "servers belong to a live autoscaler; here [[groups]] say what the fleet is"
        raise ConfigError(text, violations={"autoscaler.servers": text})
    autoscaler_of(from_mapping(AutoscalerConfig, table, "autoscaler"))


def _predictor(table: Mapping[str, object]) -> None:
    if table.get("length") != NO_PREDICTOR:
        build_predictor(from_mapping(PredictorConfig, table, "predictor"), _ONE_REQUEST)


def _gateway(table: Mapping[str, object]) -> None:
    from_mapping(GatewayConfig, table, "gateway")
