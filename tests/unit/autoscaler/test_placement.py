"""Where one more instance of a model is loaded."""

from dataclasses import replace

from forebay.autoscaler.actions import Start
from forebay.autoscaler.config import Config, ModelConfig, ServerConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.life import Life
from forebay.autoscaler.placement import free_servers
from forebay.autoscaler.policy.autoscaler.static import Static
from forebay.core.fleet import FleetState, Member, Origin
from forebay.core.values import Instance, InstanceState

S = 1_000_000


def model(name: str, memory_mb: int = 0, servers: tuple[str, ...] = ("a", "b", "c")) -> ModelConfig:
    return ModelConfig(name=name, launcher="repository", servers=servers, memory_mb=memory_mb, instances_min=0)


def fleet(*memory_mb: int, models: tuple[ModelConfig, ...], models_max: int = 4) -> Config:
    servers = (
        ServerConfig(server_id=name, grpc_address=f"{name}:1", memory_mb=size, models_max=models_max)
        for name, size in zip("abc", memory_mb, strict=False)
    )
    return Config(models=models, servers=tuple(servers))


def loaded(server_id: str, name: str, state: InstanceState = InstanceState.READY) -> Life:
    instance = Instance(f"{server_id}/{name}", name, f"{server_id}:1", server_id, state=state)
    return Life(Member(instance, Origin.LAUNCHED), actuated=True, seen_us=0)


def names(model: ModelConfig, config: Config, *lives: Life) -> str:
    return "".join(server.server_id for server in free_servers(model, config, lives))


def test_the_server_that_is_left_with_the_least_comes_first() -> None:
    small, large = model("small", 10), model("large", 60)
    config = fleet(80, 24, 40, models=(small, large))
    assert names(small, config) == "bca"
    assert names(large, config) == "a"


def test_several_models_share_a_server_as_long_as_their_memory_fits() -> None:
    small, large, other = model("small", 10), model("large", 60), model("other", 15)
    config = fleet(80, 24, 40, models=(small, large, other))
    assert names(other, config, loaded("b", "small")) == "ca"
    assert names(small, config, loaded("a", "large"), loaded("b", "other")) == "ac"
    assert names(other, config, loaded("a", "large"), loaded("b", "small"), loaded("c", "large")) == "a"


def test_what_drains_takes_its_memory_until_it_is_gone() -> None:
    small, large = model("small", 10, servers=("a",)), model("large", 20, servers=("a",))
    config = fleet(24, models=(small, large))
    assert names(small, config, loaded("a", "large", InstanceState.DRAINING)) == ""
    assert names(small, config) == "a"


def test_a_model_is_loaded_on_a_server_once_and_only_where_it_may() -> None:
    small = model("small", 10, servers=("a", "b"))
    config = fleet(80, 80, 80, models=(small,))
    assert names(small, config, loaded("a", "small")) == "b"


def test_where_no_memory_is_known_the_server_with_the_most_room_comes_first() -> None:
    one, two = model("one", servers=("a", "b")), model("two", servers=("a", "b"))
    config = fleet(0, 0, models=(one, two))
    assert names(one, config, loaded("a", "two")) == "ba"
    full = fleet(0, 0, models=(one, two), models_max=1)
    assert names(one, full, loaded("a", "two")) == "b"


def test_a_model_of_several_pools_takes_what_its_largest_takes() -> None:
    pools = (
        ModelConfig(name="m", pool="m-a", launcher="repository", servers=("a",), memory_mb=10),
        ModelConfig(name="m", pool="m-b", launcher="repository", servers=("b",), memory_mb=30),
    )
    small = model("small", 20, servers=("a",))
    assert names(small, fleet(40, 40, models=(*pools, small)), loaded("a", "m")) == ""


def starts(config: Config, ticks: int = 3) -> list[str]:
    """The instances that an engine starts in some ticks, each of which is there at once."""
    engine = Engine(config, Static(), FleetState(), 0)
    found = []
    for tick in range(1, ticks + 1):
        for action in engine.on_tick(Forecasts(), tick * S):
            if isinstance(action, Start):
                found.append(action.instance.instance_id)
                engine.on_actuated(action.instance.instance_id, action.instance, tick * S)
    return sorted(found)


def test_the_engine_fills_the_smallest_holes_and_leaves_the_large_one() -> None:
    small, large = model("small", 10), model("large", 60)
    config = fleet(80, 24, 10, models=(small, large))
    assert starts(config) == ["a/large", "c/small"]


def test_a_model_that_is_broadcast_is_loaded_on_every_server_that_it_fits() -> None:
    everywhere = replace(model("all", 10), broadcast=True, instances_initial=1)
    assert starts(fleet(80, 24, 10, models=(everywhere,))) == ["a/all", "b/all", "c/all"]
    assert starts(fleet(80, 24, 8, models=(everywhere,))) == ["a/all", "b/all"]
