"""The models of an emulated server and their life: available, loading, ready, unloading."""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field

from forebay.core.errors import ConfigError, InvalidArgument, NotFound, Unavailable
from forebay.emulator.answers import Answers
from forebay.emulator.config import Config, ModelSpec
from forebay.emulator.faults import Faults, FaultState
from forebay.emulator.host import ModelHost, ModelStats
from forebay.emulator.model_config import VERSION, override
from forebay.emulator.profiles import compute, effective
from forebay.wire.clock import Clock


@dataclass(slots=True)
class Entry:
    """One model of the repository; `state` is empty until the first load, then in Triton's words."""

    spec: ModelSpec
    state: str = ""
    reason: str = ""
    host: ModelHost | None = None
    leaving: set[ModelHost] = field(default_factory=set)
    stats: ModelStats = field(default_factory=ModelStats)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Repository:
    """Loads and unloads models as Triton does in explicit mode, and takes emulated time for it.

    A load returns when the model is ready; while a model is loaded again its old version serves on. An unload returns
    at once: new requests are turned away, those in flight end in peace. Raises ConfigError for a configured model that
    cannot be.
    """

    def __init__(self, config: Config, answers: Answers, faults: Faults, clock: Clock) -> None:
        self._config = config
        self._answers = answers
        self._faults = faults
        self._clock = clock
        self._entries = {spec.name: Entry(_possible(spec)) for spec in (*config.models, *config.available)}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.live = False
        self.phase = "provisioning"
        faults.subscribe(self._on_fault)

    async def start(self) -> None:
        """Pass the cold-start phases and load the configured models side by side."""
        cold = self._config.cold_start
        for spec in self._config.models:
            self._entries[spec.name].state = "LOADING"
        for phase, duration_s in (("provisioning", cold.provisioning_s), ("image", cold.image_s)):
            await self._pass(phase, duration_s)
        await self._pass("runtime", cold.runtime_s)
        self.live = True
        self.phase = "weights"
        await asyncio.gather(*(self.load(spec.name) for spec in self._config.models))
        self.phase = "ready"

    @property
    def ready(self) -> bool:
        """Whether the start is over, no load or unload is under way, and the server is not stopping."""
        states = {entry.state for entry in self._entries.values()}
        return self.phase == "ready" and not self._closing and not states & {"LOADING", "UNLOADING"}

    def entries(self) -> Iterable[Entry]:
        """All models in the order of the configuration."""
        return self._entries.values()

    def find(self, name: str, version: str = "") -> Entry:
        """The entry of a model that is ready. Raises NotFound."""
        entry = self._entries.get(name)
        if entry is None or not entry.state:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        if entry.host is None:
            raise NotFound(f"Request for unknown model: '{name}' has no available versions")
        if version not in ("", VERSION):
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")
        return entry

    def serving(self, name: str, version: str = "") -> ModelHost:
        """The host that takes requests for a model. Raises NotFound, or Unavailable while the server stops."""
        host = self.find(name, version).host
        assert host is not None
        if self._closing:
            raise Unavailable(f"Server is stopping, scheduler for model '{name}' has stopped accepting new requests")
        return host

    async def load(self, name: str, config_json: str = "") -> str:
        """Load a model, with parameters from a model configuration; returns why it failed, or nothing."""
        entry = self._entries.get(name)
        if entry is None:
            return f"failed to load '{name}', failed to poll from model repository"
        async with entry.lock:
            if entry.host is not None and not config_json:
                return ""
            return await self._load(entry, config_json)

    def unload(self, name: str) -> None:
        """Stop taking requests for a model; an unknown one is left alone."""
        entry = self._entries.get(name)
        if entry is None or entry.host is None:
            return
        entry.state = "UNLOADING"
        self._spawn(self._retire(entry, entry.host))
        entry.host = None

    async def drain(self, limit_s: float) -> bool:
        """Take no new requests and wait for those in flight; False if `limit_s` was too short and they were failed."""
        self._closing = True
        hosts = self._hosts()
        waiting = asyncio.gather(*(host.drained() for host in hosts))
        done, _ = await asyncio.wait([asyncio.ensure_future(waiting)], timeout=limit_s)
        waiting.cancel()
        for host in hosts:
            host.close()
        for task in self._tasks:
            task.cancel()
        return bool(done)

    async def _load(self, entry: Entry, config_json: str) -> str:
        name, before = entry.spec.name, entry.state
        try:
            spec = override(entry.spec, config_json) if config_json else entry.spec
            profile = compute(spec)
            spec.flags(profile, 0)
        except (InvalidArgument, ValueError) as error:
            entry.state, entry.reason = before or "UNAVAILABLE", str(error)
            return f"failed to load '{name}', {error}"
        entry.state, entry.reason = "LOADING", ""
        await self._sleep(self._config.cold_start.load_s(profile.weight_bytes_per_gpu))
        host = ModelHost(effective(spec, profile), profile, self._config, self._answers, entry.stats, self._clock)
        _inject(host, self._faults.state)
        if entry.host is not None:
            self._spawn(self._retire(entry, entry.host))
        entry.host, entry.state = host, "READY"
        return ""

    async def _retire(self, entry: Entry, host: ModelHost) -> None:
        entry.leaving.add(host)
        await host.drained()
        host.close()
        entry.leaving.discard(host)
        if entry.state == "UNLOADING" and not entry.leaving:
            entry.state, entry.reason = "UNAVAILABLE", "unloaded"

    async def _pass(self, phase: str, duration_s: float) -> None:
        self.phase = phase
        await self._sleep(duration_s)

    async def _sleep(self, emulated_s: float) -> None:
        if emulated_s > 0:
            await asyncio.sleep(emulated_s / self._config.time_scale)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hosts(self) -> list[ModelHost]:
        return [host for entry in self._entries.values() for host in (entry.host, *entry.leaving) if host is not None]

    def _on_fault(self, state: FaultState) -> None:
        for host in self._hosts():
            _inject(host, state)


def _possible(spec: ModelSpec) -> ModelSpec:
    try:
        spec.flags(compute(spec), 0)
    except ValueError as error:
        raise ConfigError(f"model {spec.name!r}: {error}") from error
    return spec


def _inject(host: ModelHost, state: FaultState) -> None:
    host.hang(state.hang)
    host.slow(state.slow)
