"""What every actuator that acts promises.

Local processes, the repository of an emulated and of a real Triton, and containers of three engines: a small one that
keeps to the documented rules of Docker's API, and where they are installed Docker and podman.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler import process
from forebay.autoscaler.actuator import Actuator, Advisory, ByPool, Elsewhere, Limited, Survey
from forebay.autoscaler.actuator_docker import DockerActuator, Recipe
from forebay.autoscaler.actuator_process import MARK, ProcessActuator
from forebay.autoscaler.actuator_repository import RepositoryActuator
from forebay.autoscaler.config import ModelConfig
from forebay.autoscaler.container import ContainerConfig
from forebay.autoscaler.docker_api import DockerApi
from forebay.autoscaler.launch import command_of
from forebay.core.errors import ActuatorTimeout, ForebayError, Unavailable
from forebay.core.values import Instance
from forebay.wire.channel import connect
from tests.integration.container_engines import Engine, docker_engine, podman_engine
from tests.integration.emulated_triton import start_emulator
from tests.integration.fake_docker import FakeDocker
from tests.integration.real_triton import RealTriton, real_triton

__all__ = ["docker_engine", "podman_engine", "real_triton"]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "services")}
PATIENCE_S = 60.0
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)",
)


@dataclass(slots=True)
class Stage:
    """One kind of actuator with an instance that it can start.

    `again` gives a fresh actuator, as after a restart; `end` ends an instance behind the actuator's back; `broken` is
    an instance whose start must fail.
    """

    actuator: Actuator
    instance: Instance
    broken: Instance
    again: Callable[[], Actuator]
    end: Callable[[Instance], Awaitable[None]]


def local(name: str, model: str = "m") -> Instance:
    return Instance(f"{name}/{model}", model, "", name)


def processes(tmp_path: Path, commands: dict[str, tuple[str, ...]], grace_s: float = 10.0) -> ProcessActuator:
    return ProcessActuator(commands, tmp_path / "state", 0, ENVIRONMENT, grace_s)


def record_of(tmp_path: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((tmp_path / "state" / f"{name}.json").read_text())
    return found


def pid_of(tmp_path: Path, name: str) -> int:
    return int(str(record_of(tmp_path, name)["pid"]))


def limited(actuator: Actuator) -> Limited:
    """As it is made for the autoscaler."""
    return Limited(actuator, start_s=45.0, stop_s=60.0, survey_s=10.0)


async def process_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    commands = {"m": command_of(ModelConfig(name="m"), ""), "broken": ("/no/such/program",)}

    def again() -> Limited:
        return limited(processes(tmp_path, commands))

    async def end(instance: Instance) -> None:
        os.kill(pid_of(tmp_path, instance.server_id), signal.SIGKILL)

    actuator = again()
    yield Stage(actuator, local("local-1"), local("local-2", "broken"), again, end)
    for instance in (await actuator.survey([])).alive.values():
        await actuator.stop(instance)


async def repository_stage(address: str, model: str) -> AsyncIterator[Stage]:
    instance = Instance(f"gpu-1/{model}", model, address, "gpu-1")
    broken = Instance("gpu-1/nonsense", "nonsense", address, "gpu-1")
    made: list[Limited] = []

    def again() -> Limited:
        made.append(limited(RepositoryActuator([instance], 60.0, 30.0)))
        return made[-1]

    async def end(instance: Instance) -> None:
        async with connect(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = service_pb2.RepositoryModelUnloadRequest(model_name=instance.model)
            await stub.RepositoryModelUnload(request, timeout=30)

    yield Stage(again(), instance, broken, again, end)
    await made[0].stop(instance)
    for actuator in made:
        await actuator.close()


async def docker_stage(host: str, good: ContainerConfig, broken: ContainerConfig) -> AsyncIterator[Stage]:
    recipes = {"m": Recipe(good), "broken": Recipe(broken)}
    made: list[Limited] = []

    def again() -> Limited:
        made.append(limited(DockerActuator(host, "test", recipes, 0, 10.0)))
        return made[-1]

    async def end(instance: Instance) -> None:
        async with DockerApi(host) as api:
            await api.stop(f"test-{instance.server_id}", 0)

    yield Stage(again(), local("local-1"), local("local-2", "broken"), again, end)
    for instance in (await made[0].survey([])).alive.values():
        await made[0].stop(instance)
    for actuator in made:
        await actuator.close()


async def fake_docker_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    good = emulated(ContainerConfig(image="triton", networks=("host",)))
    async with FakeDocker(tmp_path).serving() as engine:
        broken = ContainerConfig(image="triton", command=("/no/such/program",))
        async for one in docker_stage(engine.host, good, broken):
            yield one


async def engine_stage(engine: Engine) -> AsyncIterator[Stage]:
    good, broken = engine.container(command_of(ModelConfig(name="m"), "")), engine.container(["/no/such/program"])
    async for one in docker_stage(engine.host, good, broken):
        yield one


def emulated(container: ContainerConfig) -> ContainerConfig:
    environment = (f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}",)
    return replace(container, command=command_of(ModelConfig(name="m"), ""), environment=environment)


async def emulator_stage() -> AsyncIterator[Stage]:
    server = await asyncio.to_thread(start_emulator, "--available", "m", "--model", "other")
    async for one in repository_stage(server.grpc_address, "m"):
        yield one
    await asyncio.to_thread(server.terminate)


@pytest.fixture(params=["process", "repository", "real_triton", "docker_rules", "docker", "podman"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    stages: dict[str, Callable[[], AsyncIterator[Stage]]] = {
        "process": lambda: process_stage(tmp_path),
        "repository": emulator_stage,
        "real_triton": lambda: real_stage(request.getfixturevalue("real_triton")),
        "docker_rules": lambda: fake_docker_stage(tmp_path),
        "docker": lambda: engine_stage(request.getfixturevalue("docker_engine")),
        "podman": lambda: engine_stage(request.getfixturevalue("podman_engine")),
    }
    async for one in stages[request.param]():
        yield one


async def real_stage(real: RealTriton) -> AsyncIterator[Stage]:
    async for one in repository_stage(real.grpc_address, "smollm2_short"):
        yield one


async def is_ready(instance: Instance) -> bool:
    async with connect(instance.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            answer = await stub.ModelReady(service_pb2.ModelReadyRequest(name=instance.model), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.ready)


async def until(holds: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(int(PATIENCE_S / 0.1)):
        if await holds():
            return True
        await asyncio.sleep(0.1)
    return False


async def started(stage: Stage) -> Instance:
    instance = await stage.actuator.start(stage.instance)
    assert instance is not None
    assert await until(lambda: is_ready(instance))
    return instance


async def test_a_start_gives_an_address_that_becomes_ready(stage: Stage) -> None:
    instance = await started(stage)
    assert (instance.instance_id, instance.model) == (stage.instance.instance_id, stage.instance.model)
    assert instance.grpc_address.startswith("127.0.0.1:")


async def test_a_process_that_speaks_openai_s_protocol_does_so_on_its_http_port(tmp_path: Path) -> None:
    commands = {"m": SLEEPER, "n": SLEEPER}
    actuator = ProcessActuator(commands, tmp_path, 0, ENVIRONMENT, 5.0, openai=("m",))
    for name, speaks in (("m", True), ("n", False)):
        instance = Instance(f"local-1-{name}/{name}", name, "", f"local-1-{name}")
        placed = await actuator.start(instance)
        assert placed is not None
        assert bool(placed.openai_address) is speaks
        assert placed.openai_address != placed.grpc_address
        await actuator.stop(placed)


async def test_an_instance_that_starts_is_alive_and_never_gone(stage: Stage) -> None:
    instance = await stage.actuator.start(stage.instance)
    assert instance is not None
    for _ in range(20):
        assert not (await stage.actuator.survey([instance])).gone
        if await is_ready(instance):
            break
        await asyncio.sleep(0.1)
    assert await until(lambda: is_ready(instance))
    survey = await stage.actuator.survey([instance])
    assert instance.instance_id in survey.alive


async def test_starting_what_starts_or_runs_already_changes_nothing(stage: Stage) -> None:
    first = await stage.actuator.start(stage.instance)
    assert first is not None
    second = await stage.actuator.start(stage.instance)
    assert second is not None
    assert second.grpc_address == first.grpc_address
    assert await until(lambda: is_ready(first))
    third = await stage.actuator.start(stage.instance)
    assert third is not None
    assert third.grpc_address == first.grpc_address
    assert await is_ready(first)
    assert list((await stage.actuator.survey([])).alive) == [first.instance_id]


async def test_closing_leaves_the_instances_alive(stage: Stage) -> None:
    instance = await started(stage)
    await stage.again().close()
    assert await is_ready(instance)


async def test_asking_whether_it_may_go_changes_nothing(stage: Stage) -> None:
    instance = await started(stage)
    assert await stage.actuator.retire(instance)
    assert await is_ready(instance)
    assert instance.instance_id in (await stage.actuator.survey([instance])).alive


async def test_a_stop_while_it_starts_ends_it_too(stage: Stage) -> None:
    instance = await stage.actuator.start(stage.instance)
    assert instance is not None
    assert await stage.actuator.stop(instance)
    assert instance.instance_id not in (await stage.actuator.survey([])).alive
    assert not await is_ready(instance)


async def test_a_stop_ends_it_and_stopping_again_is_no_error(stage: Stage) -> None:
    instance = await started(stage)
    assert await stage.actuator.retire(instance)
    assert await stage.actuator.stop(instance)
    assert not await is_ready(instance)
    assert instance.instance_id not in (await stage.actuator.survey([])).alive
    assert await stage.actuator.stop(instance)


async def test_what_ended_by_itself_is_gone_with_a_reason(stage: Stage) -> None:
    instance = await started(stage)
    await stage.end(instance)

    async def is_gone() -> bool:
        survey = await stage.actuator.survey([instance])
        assert (instance.instance_id in survey.alive) != (instance.instance_id in survey.gone)
        return bool(survey.gone.get(instance.instance_id))

    assert await until(is_gone)


async def test_after_a_restart_it_is_known_again_and_can_be_stopped(stage: Stage) -> None:
    instance = await started(stage)
    later = stage.again()
    survey = await later.survey([])
    assert survey.alive[instance.instance_id].grpc_address == instance.grpc_address
    assert await is_ready(instance)
    assert await later.stop(instance)
    assert not await is_ready(instance)


async def test_a_start_that_cannot_work_says_why(stage: Stage) -> None:
    found: list[str] = []
    instance = stage.broken
    try:
        instance = await stage.actuator.start(stage.broken) or stage.broken
    except ForebayError as error:
        found.append(error.message)

    async def is_gone() -> bool:
        found.extend((await stage.actuator.survey([instance])).gone.values())
        return bool(found)

    assert await until(is_gone)
    assert "nonsense" in found[0] or "/no/such/program" in found[0]


async def test_after_its_end_it_can_be_started_again(stage: Stage) -> None:
    instance = await started(stage)
    await stage.actuator.stop(instance)
    await started(stage)


async def test_several_processes_have_ports_of_their_own(tmp_path: Path) -> None:
    actuator = processes(tmp_path, {"m": SLEEPER})
    instances = await asyncio.gather(*(actuator.start(local(f"local-{n}")) for n in range(4)))
    ports = [port for n in range(4) for port in record_of(tmp_path, f"local-{n}")["ports"]]  # type: ignore[attr-defined]
    assert len(set(ports)) == 12
    survey = await actuator.survey([])
    assert set(survey.alive) == {f"local-{n}/m" for n in range(4)}
    for instance in instances:
        assert instance is not None
        await actuator.stop(instance)
    assert not (await actuator.survey([])).alive


async def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    actuator = processes(tmp_path, {"m": STUBBORN}, grace_s=0.3)
    instance = await actuator.start(local("local-1"))
    assert instance is not None
    log = tmp_path / "state" / "local-1.log"

    async def runs() -> bool:
        return "on" in log.read_text()

    assert await until(runs)
    pid = pid_of(tmp_path, "local-1")
    assert await actuator.stop(instance)
    assert not process.identity(pid)


async def test_a_stranger_with_the_same_pid_is_never_signalled(tmp_path: Path) -> None:
    actuator = processes(tmp_path, {"m": SLEEPER})
    instance = await actuator.start(local("local-1"))
    assert instance is not None
    pid = pid_of(tmp_path, "local-1")
    path = tmp_path / "state" / "local-1.json"
    mine = path.read_text()
    path.write_text(json.dumps({**json.loads(mine), "identity": "another boot:1"}))
    assert instance.instance_id in (await processes(tmp_path, {}).survey([instance])).gone
    path.write_text(json.dumps({**json.loads(mine), "identity": "another boot:1"}))
    assert await actuator.stop(instance)
    assert process.identity(pid)
    path.write_text(mine)
    assert await actuator.stop(instance)
    assert not process.identity(pid)


async def test_a_process_whose_start_was_never_recorded_is_found_by_its_mark(tmp_path: Path) -> None:
    actuator = processes(tmp_path, {"m": SLEEPER})
    instance = await actuator.start(local("local-1"))
    assert instance is not None
    path = tmp_path / "state" / "local-1.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "pid": 0, "identity": ""}))
    later = processes(tmp_path, {})
    assert instance.instance_id in (await later.survey([])).alive
    assert pid_of(tmp_path, "local-1") == values["pid"]
    assert await later.stop(instance)
    assert not process.find_marked(MARK, str(tmp_path / "state" / "local-1"))


async def test_the_reason_of_a_process_names_its_status_and_its_log(tmp_path: Path) -> None:
    actuator = processes(tmp_path, {"m": (sys.executable, "-c", "print('sorry'); raise SystemExit(3)")})
    instance = await actuator.start(local("local-1"))
    assert instance is not None
    found: list[str] = []

    async def is_gone() -> bool:
        found[:] = (await actuator.survey([instance])).gone.values()
        return bool(found)

    assert await until(is_gone)
    assert "status 3" in found[0]
    log = tmp_path / "state" / "local-1.log"
    assert str(log) in found[0]
    assert log.read_text() == "sorry\n"


async def test_nothing_can_be_told_of_a_server_that_does_not_answer() -> None:
    instance = Instance("gpu-1/m", "m", "127.0.0.1:1", "gpu-1")
    actuator = RepositoryActuator([instance], 1.0, 1.0)
    assert await actuator.survey([instance]) == Survey()
    with pytest.raises(ForebayError, match="cannot unload"):
        await actuator.stop(instance)
    await actuator.close()


async def test_the_advisory_actuator_sees_everything_and_does_nothing(tmp_path: Path) -> None:
    real = processes(tmp_path, {"m": SLEEPER})
    instance = await real.start(local("local-1"))
    assert instance is not None
    advisory = Advisory(real)
    assert await advisory.start(local("local-2")) is None
    assert not await advisory.retire(instance)
    assert not await advisory.stop(instance)
    assert set((await advisory.survey([])).alive) == {"local-1/m"}
    await real.stop(instance)


async def test_an_actuator_for_what_others_start_asks_for_nothing_and_may_refuse() -> None:
    elsewhere = Elsewhere()
    assert await elsewhere.start(local("local-1")) is None
    assert not await elsewhere.retire(local("local-1"))
    assert not await elsewhere.stop(local("local-1"))
    assert await elsewhere.survey([local("local-1")]) == Survey()
    await elsewhere.close()


async def test_each_pool_has_its_actuator(tmp_path: Path) -> None:
    first, second = processes(tmp_path / "a", {"m": SLEEPER, "eu": SLEEPER}), processes(tmp_path / "b", {"n": SLEEPER})
    both = ByPool({"m": first, "eu": first}, otherwise=second)
    wanted = [local("local-1", "m"), local("local-2", "n"), replace(local("local-5", "n"), pool="eu")]
    started = [await both.start(one) for one in wanted]
    assert set((await first.survey([])).alive) == {"local-1/m", "local-5/n"}
    assert set((await second.survey([])).alive) == {"local-2/n"}
    assert set((await both.survey([])).alive) == {"local-1/m", "local-2/n", "local-5/n"}
    gone = (await both.survey([local("local-3", "m"), local("local-4", "n")])).gone
    assert set(gone) == {"local-3/m", "local-4/n"}
    for instance in started:
        assert instance is not None
        await both.stop(instance)


class Stuck:
    """An actuator whose calls hang until `release`; it notes what it did."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.done: list[str] = []

    async def start(self, instance: Instance) -> Instance | None:
        await self._do("start")
        return instance

    async def retire(self, instance: Instance) -> bool:
        await self._do("retire")
        return True

    async def stop(self, instance: Instance) -> bool:
        await self._do("stop")
        return True

    async def survey(self, expected: Collection[Instance]) -> Survey:
        await self._do("survey")
        return Survey()

    async def close(self) -> None:
        self.done.append("close")

    async def _do(self, verb: str) -> None:
        await self.release.wait()
        self.done.append(verb)


async def test_an_actuator_that_hangs_is_an_error_in_time() -> None:
    hanging = Limited(Stuck(), start_s=0.05, stop_s=0.05, survey_s=0.05)
    one = local("local-1")
    with pytest.raises(ActuatorTimeout, match="local-1/m was not started within"):
        await hanging.start(one)
    with pytest.raises(ActuatorTimeout, match="not taken out"):
        await hanging.retire(one)
    with pytest.raises(ActuatorTimeout, match="not stopped"):
        await hanging.stop(local("local-2"))
    with pytest.raises(ActuatorTimeout, match="not seen"):
        await hanging.survey([one])
    await hanging.close()


async def test_a_start_that_comes_too_late_is_undone_before_the_next() -> None:
    stuck = Stuck()
    late = Limited(stuck, start_s=0.3, stop_s=1.0, survey_s=1.0)
    with pytest.raises(ActuatorTimeout):
        await late.start(local("local-1"))
    for call in (late.start(local("local-1")), late.stop(local("local-1"))):
        with pytest.raises(Unavailable, match="being undone"):
            await call
    stuck.release.set()

    async def is_undone() -> bool:
        return stuck.done == ["start", "stop"]

    assert await until(is_undone)
    await asyncio.sleep(0)
    assert await late.start(local("local-1")) == local("local-1")
    await late.close()


async def test_an_actuator_that_cannot_look_around_hides_nothing_of_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real = processes(tmp_path, {"n": SLEEPER})
    both = ByPool({"m": Limited(Stuck(), 1.0, 1.0, survey_s=0.05)}, otherwise=real)
    instance = await real.start(local("local-1", "n"))
    assert instance is not None
    survey = await both.survey([local("local-2", "m"), instance])
    assert (set(survey.alive), survey.gone) == ({"local-1/n"}, {})
    assert "cannot look around" in caplog.text
    await real.stop(instance)
