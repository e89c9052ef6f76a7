"""Checks an arm before anything runs: every table by its own service's configuration, every policy by its name."""

from collections.abc import Callable, Mapping

from forebay.autoscaler.config import Config as AutoscalerConfig
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.gateway.config import Config as GatewayConfig
from forebay.plugins import with_plugins
from forebay.predictor.build import build_engine
from forebay.predictor.config import Config as PredictorConfig
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.policy import KINDS, build
from forebay.simulator.config import PolicyConfig
from forebay.simulator.run import NO_PREDICTOR

FLEET_KEYS = ("models", "servers")
"""What [autoscaler] says of the fleet when it runs live; here the groups say it."""


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
    build(
        from_mapping(SchedulerConfig, table, "scheduler"),
        {kind: with_plugins(kind, known) for kind, known in KINDS.items()},
    )


def _autoscaler(table: Mapping[str, object]) -> None:
    for key in FLEET_KEYS:
        if key in table:
            text = f"{key} belongs to a live autoscaler; here [[groups]] say what the fleet is"
            raise ConfigError(text, violations={f"autoscaler.{key}": text})
    config = from_mapping(AutoscalerConfig, table, "autoscaler")
    known = with_plugins("autoscaler", AUTOSCALERS)
    if config.policy not in known:
        raise ConfigError(f"unknown policy {config.policy!r} in [autoscaler]; known: {', '.join(sorted(known))}")
    from_mapping(known[config.policy], config.parameters, "autoscaler.parameters")


def _predictor(table: Mapping[str, object]) -> None:
    if table.get("length") != NO_PREDICTOR:
        build_engine(from_mapping(PredictorConfig, table, "predictor"))


def _gateway(table: Mapping[str, object]) -> None:
    from_mapping(GatewayConfig, table, "gateway")
