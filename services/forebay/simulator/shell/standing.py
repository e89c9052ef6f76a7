"""A fleet that never changes: every group's first instances, ready from the start."""

from forebay.core.values import Instance, InstanceState
from forebay.simulator.config import Group
from forebay.simulator.results import FleetChange
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.machines import Machine


def start_all(context: Context) -> list[Instance]:
    """Starts every group's first instances, ready at once, under the names and in the numbers of the autoscaler."""
    first = {group.model: group for group in reversed(context.world.groups)}
    counts = [
        max(group.instances_initial, group.instances_min) if first[group.model] is group else group.instances_initial
        for group in context.world.groups
    ]
    groups = [group for group, count in zip(context.world.groups, counts, strict=True) for _ in range(count)]
    return [_start(group, f"local-{number}", context) for number, group in enumerate(groups, 1)]


def _start(group: Group, server_id: str, context: Context) -> Instance:
    machine = context.machines.add(f"{server_id}/{group.model}", group)
    context.changes.append(change_of(machine, InstanceState.READY, context.now_us))
    return instance_of(machine, server_id, context)


def instance_of(machine: Machine, server_id: str, context: Context) -> Instance:
    """A ready engine as the fleet publishes it."""
    return Instance(
        instance_id=machine.instance_id,
        model=machine.group.model,
        grpc_address=machine.instance_id,
        server_id=server_id,
        state=InstanceState.READY,
        region=machine.group.region,
        profile=machine.group.profile,
        concurrency_max=machine.profile.max_seqs,
        kv_tokens_max=machine.profile.kv_tokens,
        context_tokens_max=context.world.engine.model_tokens_max,
        state_us=context.now_us,
    )


def change_of(machine: Machine, state: InstanceState, at_us: int) -> FleetChange:
    """The engine entered a state."""
    gpu = machine.profile.name.partition("/")[0]
    return FleetChange(
        at_us=at_us,
        instance_id=machine.instance_id,
        model=machine.group.model,
        region=machine.group.region,
        gpu=gpu,
        gpu_count=machine.profile.gpu_count,
        state=state.name,
    )
