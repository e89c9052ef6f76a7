"""Reads a fleet and policies from one line each: `H100/Llama-3-8B/tp1 x4`, `router=least_requests,autoscaler=kpa`."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from forebay.core.errors import ConfigError
from forebay.simulator.config import Group, PolicyConfig
from forebay.simulator.profiles import profile_of

SCHEDULER_KINDS = ("admission", "orderer", "router", "puller", "grouper")
PREDICTOR_KINDS = ("length", "forecaster")
KINDS = (*SCHEDULER_KINDS, "autoscaler", *PREDICTOR_KINDS)
_GROUP = re.compile(
    r"(?:(?P<name>[^=\s@]+)=)?(?P<profile>[^\s@=]+)(?:\s+x(?P<low>\d+)(?:-(?P<high>\d+))?)?(?:\s*@(?P<region>\S+))?"
)


def parse_fleet(text: str) -> tuple[Group, ...]:
    """Groups from `[NAME=]GPU/MODEL/tpN [xN[-MAX]] [@REGION]` with commas between them.

    NAME is the model that clients ask for; without it the profile's. A group has N instances, and up to MAX where the
    autoscaler wants more. Raises ConfigError naming the part that is wrong.
    """
    groups = tuple(_group(part.strip()) for part in text.split(",") if part.strip())
    if not groups:
        raise ConfigError('--fleet is empty; give at least one group, such as "H100/Llama-3-8B/tp1 x4"')
    return groups


def _group(text: str) -> Group:
    found = _GROUP.fullmatch(text)
    if found is None:
        raise ConfigError(
            f'--fleet: {text!r} is not [NAME=]GPU/MODEL/tpN xN[-MAX] [@REGION], as "H100/Llama-3-8B/tp1 x4"'
        )
    profile, low = found["profile"], int(found["low"] or 1)
    high = int(found["high"] or low)
    if low > high or high < 1:
        raise ConfigError(f"--fleet: {text!r} must have at least 1 instance, and not more at first than at most")
    try:
        profile_of(profile)
        return Group(
            model=found["name"] or profile.split("/")[1],
            profile=profile,
            region=found["region"] or "local",
            instances_initial=low,
            instances_min=low,
            instances_max=high,
        )
    except (ValueError, IndexError) as error:
        raise ConfigError(f"--fleet: {error}") from error


def parse_policy(text: str) -> PolicyConfig:
    """An arm from `KIND=NAME` and `KIND.PARAMETER=VALUE` with commas between them; values are written as in TOML.

    Raises ConfigError for a kind that does not exist. What is not given takes the services' own defaults, but for the
    autoscaler, which is static.
    """
    scheduler: dict[str, Any] = {}
    autoscaler: dict[str, Any] = {"policy": "static"}
    predictor: dict[str, Any] = {}
    for kind, parameter, value in _settings(text):
        if kind in SCHEDULER_KINDS:
            table = scheduler if not parameter else scheduler.setdefault(f"{kind}_parameters", {})
        elif kind == "autoscaler":
            table = autoscaler if not parameter else autoscaler.setdefault("parameters", {})
        else:
            table = predictor
        _put(table, kind, parameter, value)
    _settle(predictor)
    return PolicyConfig(name=text or "defaults", scheduler=scheduler, autoscaler=autoscaler, predictor=predictor)


def _settings(text: str) -> Iterator[tuple[str, str, object]]:
    seen: set[str] = set()
    for part in _parts(text):
        key, equals, value = part.partition("=")
        kind, _, parameter = key.strip().partition(".")
        if not equals or not value.strip():
            raise ConfigError(f"--policy: {part!r} is not KIND=NAME or KIND.PARAMETER=VALUE, as router=least_requests")
        if kind not in KINDS:
            raise ConfigError(f"--policy: no kind {kind!r}; known: {', '.join(KINDS)}")
        if key.strip() in seen:
            raise ConfigError(f"--policy: {key.strip()} is given twice; give each once")
        seen.add(key.strip())
        yield kind, parameter, value_of(value.strip())


def _parts(text: str) -> list[str]:
    """The parts between commas that stand outside brackets and quotes."""
    found = re.findall(r"""(?:[^,\[\]"']|\[[^\]]*\]|"[^"]*"|'[^']*')+""", text)
    return [part.strip() for part in found if part.strip()]


def value_of(text: str) -> object:
    """A value written as in TOML; what is none is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(table: dict[str, Any], kind: str, parameter: str, value: object) -> None:
    if parameter and kind in PREDICTOR_KINDS:
        table.setdefault("parameters", {}).setdefault(kind, {})[parameter] = value
    elif parameter:
        table[parameter] = value
    else:
        table["policy" if kind == "autoscaler" else kind] = value


def _settle(predictor: dict[str, Any]) -> None:
    """Parameters of the predictor stand under the policy's name; here they were under its kind."""
    by_kind: Mapping[str, Mapping[str, object]] = predictor.pop("parameters", {})
    for kind, parameters in by_kind.items():
        if kind not in predictor:
            raise ConfigError(f"--policy: {kind}.{next(iter(parameters))} needs {kind}=NAME beside it")
        predictor.setdefault("parameters", {})[predictor[kind]] = dict(parameters)
