"""What an operator may set: the policy, the limits, the models with how they are launched, and servers to find."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay.autoscaler.container import ContainerConfig
from forebay.core.promises import Promises
from forebay.core.values import Batching, InstanceRole

LAUNCHERS = ("emulator", "triton", "command", "repository", "docker", "keda")
MODES = ("active", "advisory")
PROFILE_PARTS = 3
ROLES = tuple(role.name.lower() for role in InstanceRole)
BATCHINGS = tuple(batching.name.lower() for batching in Batching)
SNAPSHOT_S = SURVEY_S = LEASES_S = 1.0
"""How often every shell of the engine takes a snapshot, looks for servers that ended, and asks for open leases."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A running Triton that somebody else started.

    Its ready models become instances that are probed and never stopped, unless a model's launcher is "repository" and
    names the server: then that model is loaded and unloaded there. `models_max` limits how many models are loaded by
    us, and `memory_mb` is the memory that they may take together (0: not limited). The other figures describe each
    instance found there; 0 means unknown. `role` says which classes those are there for: mixed, interactive or batch.
    `openai_address` is where the server speaks OpenAI's HTTP, for proxies that send requests there (empty: nowhere).
    """

    server_id: str = ""
    grpc_address: str = ""
    metrics_url: str = ""
    openai_address: str = ""
    region: str = "local"
    role: str = "mixed"
    models_max: int = 4
    memory_mb: int = 0
    concurrency_max: int = 0
    kv_tokens_max: int = 0
    context_tokens_max: int = 0

    def __post_init__(self) -> None:
        _need(bool(self.server_id), "every server needs a server_id, such as 'gpu-1'")
        _need(":" in self.grpc_address, f"server {self.server_id}: grpc_address must be host:port")
        has_openai = not self.openai_address or ":" in self.openai_address
        _need(has_openai, f"server {self.server_id}: openai_address must be host:port")
        _need_role(self.role, f"server {self.server_id}")
        _need(self.models_max >= 1, f"server {self.server_id}: models_max must be at least 1")
        _need(self.memory_mb >= 0, f"server {self.server_id}: memory_mb must not be negative")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model that is scaled, and how one more instance of it comes to be.

    Launchers: "emulator" (a local emulated Triton that runs `profile`), "triton" (a local real Triton), "command" (a
    local process; `command` may hold {model}, {grpc_port}, {http_port} and {metrics_port}), "repository" (the model is
    loaded on the named `servers` where its `memory_mb` fit, with `broadcast` on each of them), "docker" (a container of
    a Docker engine, see `container`), "keda" (Kubernetes starts and ends it by what KEDA is told; it registers or is
    found). `arguments` are added to the launcher's own command line, and a new instance answers one request of
    `warm_up_tokens` before it counts as ready (0: none). Bounds given here hold until somebody sets others through the
    API, and `instances_initial` counts within them. `concurrency_target` is the number of requests, held and in flight,
    that one instance is meant to carry. `role` says which classes the instances are there for: mixed, interactive or
    batch. `batching` is "static" where their engine runs the batches that the scheduler puts together; a model whose
    Triton configuration tells that need not be told of here. `serves_openai` says of a "command" or "docker" that its
    HTTP port speaks OpenAI's protocol; an emulator's does.

    A model may be named several times, for pools in other regions, of other GPUs or roles: each then has a `pool` name
    of its own. `gpu` and `gpu_count` are those of the `profile` (GPU/MODEL/tpN) unless they are given. The rates are
    the most that one instance serves within its SLO, in tokens a second (`forebay profile` measures them; 0: not
    known), and `start_s` is how long a start takes as long as none was seen.
    """

    name: str = ""
    pool: str = ""
    launcher: str = "emulator"
    profile: str = ""
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    instances_min: int = 1
    instances_max: int = 4
    instances_initial: int = 1
    concurrency_target: float = 32.0
    concurrency_max: int = 0
    kv_tokens_max: int = 0
    context_tokens_max: int = 0
    region: str = "local"
    role: str = "mixed"
    batching: str = "continuous"
    serves_openai: bool = False
    gpu: str = ""
    gpu_count: int = 0
    gpu_hour_price: float = 1.0
    prompt_tokens_per_s: float = 0.0
    response_tokens_per_s: float = 0.0
    tokens_per_s: float = 0.0
    start_s: float = 60.0
    memory_mb: int = 0
    broadcast: bool = False
    warm_up_tokens: int = 0
    container: ContainerConfig = field(default_factory=ContainerConfig)

    def __post_init__(self) -> None:
        _need(bool(self.name), "every model needs a name")
        where = f"model {self.name}"
        for name in (
            "gpu_count",
            "gpu_hour_price",
            "prompt_tokens_per_s",
            "response_tokens_per_s",
            "tokens_per_s",
            "start_s",
            "memory_mb",
            "warm_up_tokens",
        ):
            _need(getattr(self, name) >= 0, f"{where}: {name} must not be negative")
        _need_role(self.role, where)
        _need_batching(self.batching, where)
        _need(self.launcher in LAUNCHERS, f"{where}: launcher must be one of {', '.join(LAUNCHERS)}")
        _need(
            0 <= self.instances_min <= self.instances_max,
            f"{where}: needs 0 <= instances_min <= instances_max",
        )
        _need(self.concurrency_target > 0, f"{where}: concurrency_target must be positive")
        _need(bool(self.command) == (self.launcher == "command"), f"{where}: command belongs to launcher 'command'")
        _need(
            bool(self.servers) == (self.launcher == "repository"), f"{where}: servers belong to launcher 'repository'"
        )
        _need(not self.broadcast or bool(self.servers), f"{where}: broadcast belongs to launcher 'repository'")
        is_container = self.launcher == "docker"
        _need(
            self.container.is_set == is_container, f"{where}: a container's image or service is for launcher 'docker'"
        )

    @property
    def instances_range(self) -> tuple[int, int]:
        """The fewest and the most instances: one on each server for a model that is broadcast."""
        count = len(self.servers)
        return (count, count) if self.broadcast else (self.instances_min, self.instances_max)

    @property
    def is_pulled(self) -> bool:
        """Whether others start and end its instances, by what the autoscaler tells them."""
        return self.launcher == "keda"

    @property
    def speaks_openai(self) -> bool:
        """Whether the HTTP port of each instance speaks OpenAI's protocol."""
        return self.serves_openai or self.launcher == "emulator"

    @property
    def pool_name(self) -> str:
        """The name of the pool, which is that of the model unless it is given."""
        return self.pool or self.name

    @property
    def hardware(self) -> tuple[str, int]:
        """The kind of GPU (empty: not known) and how many an instance takes."""
        parts = self.profile.split("/")
        gpu, parallel = (parts[0], parts[2]) if len(parts) == PROFILE_PARTS else ("", "")
        count = int(parallel[2:]) if parallel[2:].isdecimal() else 1
        return self.gpu or gpu, self.gpu_count or count


@dataclass(frozen=True, slots=True)
class StockConfig:
    """GPUs of one kind in one region that the fleet may have in all, starting and draining instances counted."""

    region: str = "local"
    gpu: str = ""
    gpu_count: int = 0

    def __post_init__(self) -> None:
        _need(bool(self.gpu), "every stock needs a gpu, such as 'H100'")
        _need(self.gpu_count >= 0, f"stock of {self.gpu} in {self.region}: gpu_count must not be negative")


_POSITIVE = (
    "tick_s",
    "probe_s",
    "probe_starting_s",
    "probe_timeout_s",
    "start_timeout_s",
    "backoff_s_min",
    "actuator_timeout_s",
    "drain_alarm_s",
    "lead_age_s_max",
    "lease_s",
)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything under [autoscaler].

    `policy` names one of `policy/autoscaler` and `parameters` are its fields; `mode` holds until SetMode is called for
    the first time. `instances_max` is the budget of all models together and `step_instances_max` the most instances
    of a pool that one tick starts or drains. Local processes take ports upwards from `port_base` (0: any free ones) and
    keep logs and records in `state_dir`. `stocks` limit GPUs by region and kind; what none names is not limited.
    A pool that grew is not made smaller for `dwell_s` after that (below 0: as long as nine of ten of its starts take,
    and 0: at once), and never so small that those that stay would be full by more than `survivors_load_max` of their
    seats or KV cache (0: not asked). An actuator that has not answered for `actuator_timeout_s` counts as hung, a drain
    longer than `drain_alarm_s` raises an alarm, and starts older than `lead_age_s_max` tell nothing. Of several
    autoscalers on one database the one with the lease acts, and another takes over `lease_s` after its last word.
    `promises` are those that policies plan for. Containers are started by the engine at `docker_host` (empty: what
    DOCKER_HOST says, or the local one) and carry the name of the `fleet`, which no other fleet on that engine may have.
    """

    policy: str = "kpa"
    parameters: Mapping[str, object] = field(default_factory=dict)
    mode: str = "active"
    models: tuple[ModelConfig, ...] = ()
    servers: tuple[ServerConfig, ...] = ()
    stocks: tuple[StockConfig, ...] = ()
    promises: Promises = field(default_factory=Promises)
    instances_max: int = 64
    step_instances_max: int = 8
    tick_s: float = 2.0
    probe_s: float = 1.0
    probe_starting_s: float = 0.3
    probe_timeout_s: float = 1.0
    probe_failures_max: int = 3
    snapshot_age_s_max: float = 10.0
    start_timeout_s: float = 300.0
    backoff_s_min: float = 1.0
    backoff_s_max: float = 60.0
    settled_s: float = 30.0
    drain_quiet_s: float = 3.0
    lost_timeout_s: float = 60.0
    stop_grace_s: float = 15.0
    dwell_s: float = -1.0
    survivors_load_max: float = 0.95
    actuator_timeout_s: float = 120.0
    drain_alarm_s: float = 600.0
    lead_age_s_max: float = 604_800.0
    lease_s: float = 6.0
    decision_count_max: int = 1_000
    state_dir: str = ".forebay/instances"
    port_base: int = 7300
    triton_start: str = "compose/triton/start.sh"
    docker_host: str = ""
    fleet: str = "forebay"

    def __post_init__(self) -> None:
        _need(self.mode in MODES, f"mode must be one of {', '.join(MODES)}")
        for name in ("instances_max", "step_instances_max", "probe_failures_max", "decision_count_max"):
            _need(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in _POSITIVE:
            _need(getattr(self, name) > 0, f"{name} must be positive")
        _need(self.backoff_s_max >= self.backoff_s_min, "backoff_s_max must not be less than backoff_s_min")
        _need(0 <= self.port_base <= 65_000, "port_base must be 0 to 65000")
        twice = _twice([model.pool_name for model in self.models])
        _need(not twice, f"model {twice} is listed twice; give each of its pools a name of its own with pool")
        for name in ("dwell_s", "survivors_load_max"):
            _need(getattr(self, name) == getattr(self, name), f"{name} must be a number")
        _need(self.survivors_load_max >= 0, "survivors_load_max must not be negative; 0 turns it off")
        _need_used(self.stocks, self.models)
        _need_unique([f"{stock.gpu} in {stock.region}" for stock in self.stocks], "stock of")
        used = [f"{server} for {model.name}" for model in self.models for server in model.servers]
        _need_unique(used, "server")
        _need_unique([server.server_id for server in self.servers], "server")
        floor = sum(model.instances_range[0] for model in self.models)
        _need(floor <= self.instances_max, f"instances_max is {self.instances_max}, but the models need {floor}")
        known = {server.server_id for server in self.servers}
        for model in self.models:
            missing = sorted(set(model.servers) - known)
            _need(not missing, f"model {model.name}: unknown servers {', '.join(missing)}; add [[autoscaler.servers]]")


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)


def _need_batching(batching: str, where: str) -> None:
    _need(batching in BATCHINGS, f"{where}: batching must be one of {', '.join(BATCHINGS)}")


def _need_role(role: str, where: str) -> None:
    _need(role in ROLES, f"{where}: role must be one of {', '.join(ROLES)}")


def _need_used(stocks: tuple[StockConfig, ...], models: tuple[ModelConfig, ...]) -> None:
    """A stock that no pool takes from is a slip of the hand, unless the hardware of a pool is not known."""
    known = {(model.region, model.hardware[0]) for model in models}
    if any(not gpu for _, gpu in known):
        return
    for stock in stocks:
        pools = ", ".join(f"{gpu} in {region}" for region, gpu in sorted(known)) or "none"
        _need((stock.region, stock.gpu) in known, f"stock of {stock.gpu} in {stock.region}: no pool has that; {pools}")


def _need_unique(names: list[str], kind: str) -> None:
    twice = _twice(names)
    _need(not twice, f"{kind} {twice} is listed twice")


def _twice(names: list[str]) -> str:
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))
