"""Runs an engine by a text script: events above `----`, the actions and answers they lead to below.

    fleet policy=static initial=2 start_timeout_s=10     a new engine; keys of Config and of its one model `m`
    load m held=3 in_flight=40 @1                        a snapshot; `running local-1/m 5`: a server's own count
    tick @2 | wake @2                                    time passes
    actuated local-1/m | declined X | startfailed X why  answers to Start
    retired X | refused X                                answers to Retire
    stopped X | stopfailed X                             answers to Stop
    probe X ready | loading | silent                     answers of a server
    leases X 3 | leases X ?                              answers of the scheduler
    gone X why | orphan X                                what the actuator finds
    register X ttl_s | heartbeat X | deregister X        what instances say
    bounds m 1 3 | mode advisory                         what operators say
    show                                                 the fleet

Each event takes `@seconds`; without it the time stays.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from forebay.autoscaler.actions import Action, Alarm, Changed, Decided, Retire, SettingsChanged, Start, Stop
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.core.errors import ForebayError
from forebay.core.fleet import Bounds, FleetState
from forebay.core.values import Instance, InstanceLoad, ModelLoad, WakeAt

S = 1_000_000
SHORT = {"min": "instances_min", "max": "instances_max", "initial": "instances_initial", "target": "concurrency_target"}
ADDRESS = "127.0.0.1:9"


class Script:
    """One run; `command` takes a line and gives the lines that it leads to."""

    def __init__(self) -> None:
        self.now_us = 0
        self.engine = make_engine({})
        self._verbs: dict[str, Callable[..., list[Action]]] = {
            "load": self._load,
            "running": self._running,
            "tick": lambda: self.engine.on_tick(Forecasts(), self.now_us),
            "wake": lambda: self.engine.on_wake(self.now_us),
            "actuated": lambda key: self.engine.on_actuated(key, placed(self.engine.instance(key)), self.now_us),
            "declined": lambda key: self.engine.on_actuated(key, None, self.now_us),
            "startfailed": lambda key, *why: self.engine.on_actuator_failed(key, " ".join(why), self.now_us),
            "retired": lambda key: self.engine.on_retired(key, True, self.now_us),
            "refused": lambda key: self.engine.on_retired(key, False, self.now_us),
            "stopped": lambda key: self.engine.on_stopped(key, True, self.now_us),
            "stopfailed": lambda key: self.engine.on_stopped(key, False, self.now_us),
            "probe": lambda key, how: self.engine.on_probe(key, how != "silent", how == "ready", self.now_us),
            "leases": lambda key, n: self.engine.on_lease_count(key, None if n == "?" else int(n), self.now_us),
            "gone": lambda key, *why: self.engine.on_survey({key: " ".join(why)}, self.now_us),
            "orphan": lambda key: self.engine.on_orphan(instance_of(key), self.now_us),
            "register": lambda key, ttl: self.engine.on_register(instance_of(key), int(ttl) * S, self.now_us),
            "heartbeat": lambda key: self.engine.on_heartbeat(key, self.now_us),
            "deregister": lambda key: self.engine.on_deregister(key, self.now_us),
            "bounds": lambda m, low, high: self.engine.on_bounds(Bounds(m, int(low), int(high)), self.now_us),
            "mode": lambda mode: self.engine.on_mode(mode, self.now_us),
        }

    def command(self, line: str) -> list[str]:
        """Runs one line."""
        words = line.split()
        if words[-1].startswith("@"):
            self.now_us = int(float(words.pop()[1:]) * S)
        verb, arguments = words[0], words[1:]
        if verb == "fleet":
            self.engine = make_engine(dict(word.split("=") for word in arguments))
            return []
        if verb == "show":
            return [*(shown(one) for one in self.engine.instances()), *map(str, self._numbers())]
        try:
            return list(described(self._verbs[verb](*arguments)))
        except ForebayError as error:
            return [f"error {error.code}: {error.message}"]

    def _numbers(self) -> Iterable[str]:
        for model in self.engine.models():
            counts = f"ready={model.ready_count} starting={model.starting_count} draining={model.draining_count}"
            bounds = f"{model.bounds.instances_min}..{model.bounds.instances_max}"
            yield f"{model.model}: wanted={model.instances_wanted} {counts} bounds={bounds}"

    def _load(self, model: str, *pairs: str) -> list[Action]:
        values = {key: int(value) for key, value in (pair.split("=") for pair in pairs)}
        load = ModelLoad(model, held_count=values.get("held", 0), in_flight_count=values.get("in_flight", 0))
        return self.engine.on_snapshot([load], [], self.now_us)

    def _running(self, instance_id: str, count: str) -> list[Action]:
        load = InstanceLoad(instance_id, "m", True, self.now_us, running_count=int(count), waiting_count=0)
        return self.engine.on_snapshot([], [load], self.now_us)


def make_engine(words: dict[str, str]) -> Engine:
    """An engine with one model `m`; each word sets a field of the model or of the configuration."""
    values = {SHORT.get(key, key): value for key, value in words.items()}
    model_fields = {field.name: field.type for field in fields(ModelConfig)}
    of_model = {key: _typed(ModelConfig, key, value) for key, value in values.items() if key in model_fields}
    of_config = {key: _typed(Config, key, value) for key, value in values.items() if key not in model_fields}
    budget = of_config.pop("budget", None)
    if budget is not None:
        of_config["instances_max"] = int(budget)
    policy = str(of_config.get("policy", "static"))
    settings = {**of_config, "policy": policy, "models": (ModelConfig(**{"name": "m", **of_model}),)}
    return Engine(Config(**settings), AUTOSCALERS[policy](), FleetState(), 0)


def _typed(cls: type[Any], key: str, value: str) -> Any:
    default = next((field.default for field in fields(cls) if field.name == key), "")
    return type(default)(value)


def placed(instance: Instance) -> Instance:
    """The instance with an address, as an actuator gives it back."""
    values = {field.name: getattr(instance, field.name) for field in fields(Instance)}
    return Instance(**{**values, "grpc_address": instance.grpc_address or ADDRESS})


def instance_of(instance_id: str) -> Instance:
    """An instance that somebody else knows; `server/model` with `@host:port` behind it for another address."""
    name, _, address = instance_id.partition("=")
    server_id, _, model = name.partition("/")
    return Instance(name, model, address or ADDRESS, server_id)


def described(actions: Iterable[Action]) -> Iterable[str]:
    """Actions as lines."""
    for action in actions:
        yield _DESCRIBE[type(action)](action)


def shown(instance: Instance) -> str:
    """An instance as a line."""
    return f"{instance.instance_id} {instance.state.name}: {instance.state_reason}"


def _decided(action: Decided) -> str:
    made = action.decision
    numbers = f"{made.instances_before}->{made.instances_after} (wanted {made.instances_wanted})"
    return f"decided {made.model} {numbers} {made.mode}: {made.reason}"


_DESCRIBE: dict[type, Callable[[Any], str]] = {
    Start: lambda action: f"start {action.instance.instance_id}",
    Retire: lambda action: f"retire {action.instance_id}",
    Stop: lambda action: f"stop {action.instance_id}",
    Changed: lambda action: shown(action.member.instance),
    Decided: _decided,
    SettingsChanged: lambda _: "settings",
    Alarm: lambda action: f"ALARM {action.text}",
    WakeAt: lambda action: f"wake at {action.at_us / S:g}",
}
