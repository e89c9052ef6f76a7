"""A fleet that never changes: every group's first instances, ready from the start."""

from forebay.core.values import Instance
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet_plan import make_plan
from forebay.simulator.shell.machines import change_of


def start_all(context: Context) -> list[Instance]:
    """Starts the first instances that a live autoscaler would begin with, and gives them as it would publish them.

    Raises ConfigError as `make_plan` does.
    """
    plan = make_plan(context.world, {}, context.machines)
    instances = [member.instance for member in plan.state.members]
    for instance in instances:
        machine = context.machines.add(instance.instance_id, plan.groups[instance.instance_id])
        change = change_of(machine.instance_id, machine.group, machine.profile, instance.state, context.now_us)
        context.changes.append(change)
    return instances
