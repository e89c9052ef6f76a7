"""Makes of a world and an arm the autoscaler's own configuration, and the fleet that is there when a run starts."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from forebay.autoscaler.config import Config, ModelConfig
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.core.fleet import FleetSettings, FleetState, Member, Origin
from forebay.core.values import Batching, Instance, InstanceRole, InstanceState
from forebay.simulator.config import Group, World
from forebay.simulator.shell.machines import Machines
from forebay.simulator.shell.starting import mean_phases_s

SECTION = "autoscaler"
COUNTS = ("instances_min", "instances_max", "instances_initial")
RATES = ("prompt_tokens_per_s", "response_tokens_per_s", "tokens_per_s")
CHOSEN = (*COUNTS, *RATES, "concurrency_target", "start_s")
"""What an arm may say of a pool; the rest is the world's."""
START_TIMEOUT_SHARE = 3.0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """`config` and `state` are what the live engine is made with; `groups` are the groups of the first instances, by
    id, and `scaled` those that the autoscaler moves, by pool."""

    config: Config
    state: FleetState
    scaled: Mapping[str, Group]
    groups: Mapping[str, Group]


def make_plan(world: World, table: Mapping[str, object], machines: Machines) -> FleetPlan:
    """The plan of a run; `table` is the [autoscaler] section of the arm.

    The first group of each model and those that name a pool are scaled, each for itself. Entries of
    [[autoscaler.models]] change how that is done, nothing else. The engine counts the instances of the other groups
    towards the first pool of their model, so they are added to its bounds. Where the arm says
    nothing, the budget suffices for all groups, and a start may take three times what it takes on average. The fleet
    is as after a restart of the autoscaler: everything runs that should run at the start. Raises ConfigError for what
    the live service would refuse, for models that have no group, and for groups that begin above their most.
    """
    config = _config(world, table, machines)
    models = {model.pool_name: model for model in config.models}
    members: list[Member] = []
    groups: dict[str, Group] = {}
    scaled, standing = _scaled(world), _standing(world)
    for group in world.groups:
        is_scaled = scaled.get(group.pool_name) is group
        count = group.instances_initial
        if is_scaled:
            count = _initial(models[group.pool_name]) - standing[group.pool_name]
        for _ in range(count):
            server_id = f"local-{len(members) + 1}"
            instance = _instance(group, server_id, world, machines)
            groups[instance.instance_id] = group
            origin = Origin.LAUNCHED if is_scaled else Origin.REGISTERED
            members.append(Member(instance, origin, was_ready=True))
    settings = FleetSettings(ordinal=len(members))
    return FleetPlan(config, FleetState(settings, tuple(members)), scaled, groups)


def _config(world: World, table: Mapping[str, object], machines: Machines) -> Config:
    scaled, standing = _scaled(world), _standing(world)
    chosen = dict(_chosen(table.get("models", ()), scaled))
    models = [
        _raised({**_of_group(group, world, machines), **chosen.get(name, {})}, standing[name])
        for name, group in scaled.items()
    ]
    plain = Config()
    most = sum(from_mapping(ModelConfig, model, f"{SECTION}.models").instances_max for model in models)
    start_s = max(sum(mean_phases_s(world.start, machines.profile(group))) for group in scaled.values())
    defaults = {
        "instances_max": max(plain.instances_max, most),
        "start_timeout_s": max(plain.start_timeout_s, START_TIMEOUT_SHARE * start_s),
        "stocks": [asdict(stock) for stock in world.stocks],
        "promises": asdict(world.slo),
    }
    return from_mapping(Config, {**defaults, **table, "models": models, "servers": []}, SECTION)


def _raised(model: dict[str, object], count: int) -> dict[str, object]:
    """The same model with instances of other groups counted."""
    return {key: value + count if key in COUNTS and isinstance(value, int) else value for key, value in model.items()}


def _chosen(entries: object, scaled: Mapping[str, Group]) -> Iterator[tuple[str, Mapping[str, object]]]:
    for entry in entries if isinstance(entries, (list, tuple)) else ():
        name = from_mapping(ModelConfig, entry, f"{SECTION}.models").pool_name
        if name not in scaled:
            known = ", ".join(scaled)
            raise ConfigError(f"[[{SECTION}.models]] {name}: no group has this pool; pools of groups: {known}")
        yield name, {key: value for key, value in entry.items() if key in CHOSEN}


def _of_group(group: Group, world: World, machines: Machines) -> dict[str, object]:
    return {
        "name": group.model,
        "pool": group.pool,
        "region": group.region,
        "profile": group.profile,
        "instances_min": group.instances_min,
        "instances_max": group.instances_max,
        "instances_initial": group.instances_initial,
        "concurrency_target": group.concurrency_target,
        "concurrency_max": machines.profile(group).max_seqs,
        "kv_tokens_max": machines.profile(group).kv_tokens,
        "context_tokens_max": world.engine.model_tokens_max,
        "role": group.role,
        "batching": _batching(world).name.lower(),
        "gpu_hour_price": group.gpu_hour_price,
        **{name: getattr(group, name) for name in RATES},
        "gpu_count": machines.profile(group).gpu_count,
        "start_s": sum(mean_phases_s(world.start, machines.profile(group))),
    }


def _batching(world: World) -> Batching:
    return Batching.STATIC if world.engine.batch_given else Batching.CONTINUOUS


def _scaled(world: World) -> dict[str, Group]:
    """The groups that are scaled, by pool."""
    found: dict[str, Group] = {}
    seen: set[str] = set()
    for group in world.groups:
        if group.pool and group.pool in found:
            raise ConfigError(f"two groups have the pool {group.pool!r}; name them apart")
        if group.pool or group.model not in seen:
            found[group.pool_name] = group
        seen.add(group.model)
    for group in found.values():
        if group.instances_initial > group.instances_max:
            numbers = f"instances_initial {group.instances_initial}, but instances_max {group.instances_max}"
            raise ConfigError(f"group {group.model}: {numbers}; give it room for its first instances")
    return found


def _standing(world: World) -> Counter[str]:
    """The instances of groups that nobody scales, by the first pool of their model."""
    scaled = _scaled(world)
    homes = {group.model: group.pool_name for group in reversed(world.groups) if scaled.get(group.pool_name) is group}
    count: Counter[str] = Counter()
    for group in world.groups:
        count[homes[group.model]] += 0 if scaled.get(group.pool_name) is group else group.instances_initial
    return count


def _initial(model: ModelConfig) -> int:
    return max(model.instances_min, min(model.instances_initial, model.instances_max))


def _instance(group: Group, server_id: str, world: World, machines: Machines) -> Instance:
    instance_id = f"{server_id}/{group.model}"
    return Instance(
        instance_id=instance_id,
        model=group.model,
        grpc_address=instance_id,
        server_id=server_id,
        state=InstanceState.READY,
        region=group.region,
        profile=group.profile,
        concurrency_max=machines.profile(group).max_seqs,
        kv_tokens_max=machines.profile(group).kv_tokens,
        context_tokens_max=world.engine.model_tokens_max,
        state_reason="there from the start",
        batching=_batching(world),
        role=InstanceRole[group.role.upper()],
        pool=group.pool,
    )
