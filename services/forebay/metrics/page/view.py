"""What the page shows of the fleet, the queues and the parts: pure functions from messages to rows of its sections."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from lmaas.autoscaler.v1.fleet_pb2 import Mode, ModelFleet, ScalingDecision
from lmaas.scheduler.v1.pressure_pb2 import InstanceAnticipation
from lmaas.scheduler.v1.status_pb2 import ScheduledInstance, Shadow

from forebay.core.promises import Promise
from forebay.core.units import US_PER_MS
from forebay.core.values import Instance, InstanceLoad, ModelLoad, SloClass
from forebay.metrics.page.recent import Recent
from forebay.metrics.page.seen import AutoscalerSays, Part, PredictorSays, SchedulerSays, Seen

CELL_S, CELL_COUNT = 0.5, 24
"""The seconds ahead of the heat map."""
ASSUMED_PACE_US = 25_000.0
"""The time between two tokens of an instance that has not answered yet."""
PER_MILLE = 1_000

Section = dict[str, Any]


def fleet_sections(seen: Seen, recent: Recent) -> dict[str, Section]:
    """Instances, what they have, and what they are expected to have; models, queues and promises."""
    scheduled = [one for each in seen.schedulers for one in each.instances]
    return {
        "parts": {f"{one.kind} {one.address}": part(one) for one in seen.parts},
        "instances": {one.instance_id: instance(one) for one in seen.instances},
        "loads": loads(seen.instances, seen.snapshot.instances, scheduled),
        "ahead": ahead(seen.schedulers, recent),
        "models": {one.model: model(one) for one in seen.snapshot.models},
        "queues": queues(seen.schedulers),
        "promises": {name.name.lower(): promise(one) for name, one in recent.promises.items()},
    }


def part(one: Part) -> Section:
    """A part of the system and whether it answers."""
    return {"kind": one.kind, "address": one.address, "up": one.is_up, "since": ms(one.since_us), "note": one.note}


def instance(one: Instance) -> Section:
    """What changes seldom of an instance."""
    return {
        "model": one.model,
        "state": one.state.name.lower(),
        "since": ms(one.state_us),
        "why": one.state_reason,
        "pool": one.pool or one.model,
        "region": one.region,
        "profile": one.profile,
        "role": one.role.name.lower(),
        "address": one.grpc_address,
        "kv_max": one.kv_tokens_max,
        "running_max": one.concurrency_max,
    }


def loads(
    instances: Iterable[Instance], observed: Iterable[InstanceLoad], scheduled: Iterable[ScheduledInstance]
) -> Section:
    """What changes all the time, by instance: reachable, running, waiting, cache in use (per mille), requests placed,
    tokens still to come for them, most requests in flight (0: no limit), drain asked for. None: nobody tells.

    Replicas of the scheduler each know their own models: what they placed adds up.
    """
    seen = {one.instance_id: one for one in observed}
    placed: dict[str, list[ScheduledInstance]] = defaultdict(list)
    for one in scheduled:
        placed[one.instance.instance_id].append(one)
    return {one.instance_id: _load(seen.get(one.instance_id), placed[one.instance_id]) for one in instances}


def _load(seen: InstanceLoad | None, placed: Sequence[ScheduledInstance]) -> list[int | None]:
    kv = None if seen is None or seen.kv_utilization is None else round(PER_MILLE * seen.kv_utilization)
    told: list[int | None] = [None, None, None, None]
    if placed:
        told = [
            sum(one.lease_count for one in placed),
            sum(one.predicted_tokens for one in placed),
            max(one.concurrency_cap for one in placed),
            int(any(one.draining for one in placed)),
        ]
    if seen is None:
        return [None, None, None, None, *told]
    return [int(seen.reachable), seen.running_count, seen.waiting_count, kv, *told]


def ahead(schedulers: Iterable[SchedulerSays], recent: Recent) -> Section:
    """The share of its cache that each instance is expected to hold, per mille, from now on by cells of `CELL_S`.

    Engines count iterations, readers seconds: each instance's own time between tokens says how long an iteration is.
    """
    totals: dict[str, Any] = {}
    for replica in schedulers:
        step = replica.anticipation.step_iterations
        for one in replica.anticipation.instances:
            shares = _shares(one, step, recent)
            if shares is not None:
                totals[one.instance_id] = totals.get(one.instance_id, 0.0) + shares
    return {name: np.rint(shares).astype(int).tolist() for name, shares in totals.items()}


def _shares(one: InstanceAnticipation, step: int, recent: Recent) -> Any:
    if not one.kv_tokens_max or not one.kv_tokens:
        return None
    pace_us = recent.pace_us(one.instance_id, one.model) or ASSUMED_PACE_US
    tokens = np.array(one.kv_tokens, dtype=float)
    if not tokens.any():
        return np.zeros(CELL_COUNT)
    at_s = np.arange(len(tokens)) * step * pace_us / 1e6
    return np.interp(np.arange(CELL_COUNT) * CELL_S, at_s, tokens) * PER_MILLE / one.kv_tokens_max


def model(one: ModelLoad) -> Section:
    """A model over the last minute."""
    return {
        "held": one.held_count,
        "in_flight": one.in_flight_count,
        "ended": one.ended_count,
        "failed": one.failed_count,
        "ttft_p50_s": round(one.ttft_p50_s, 4),
        "ttft_p99_s": round(one.ttft_p99_s, 4),
        "prompt_tokens": one.prompt_tokens,
        "response_tokens": one.response_tokens,
    }


def promise(one: Promise) -> Section:
    """What a class is promised; 0 promises nothing."""
    return {"ttft_s": one.ttft_s, "tpot_ms": one.tpot_ms, "answer_s": one.e2e_s}


def queues(schedulers: Iterable[SchedulerSays]) -> Section:
    """What waits, by model and class: at the scheduler for room, and in gateways' stores to be sent."""
    rows: dict[str, Section] = {}
    for group in (group for each in schedulers for group in each.pressure.waiting):
        name = SloClass(group.slo_class).name.lower()
        row = rows.setdefault(
            f"{group.model}|{name}",
            {"model": group.model, "class": name, "held": 0, "stored": 0, "oldest": 0, "due": 0, "tokens": 0},
        )
        row["stored" if group.stored else "held"] += group.request_count
        row["tokens"] += round(group.mean_tokens)
        row["oldest"] = _earlier(row["oldest"], ms(group.oldest_time.ToMicroseconds()))
        row["due"] = _earlier(row["due"], ms(group.due_time.ToMicroseconds()))
    return dict(sorted(rows.items()))


def _earlier(one: int, other: int) -> int:
    return min(one or other, other or one)


def scaling_sections(says: AutoscalerSays | None) -> dict[str, Section]:
    """Pools, why they are as large as they are, and the last decisions of the autoscaler."""
    if says is None:
        return {"fleet": {}, "pools": {}, "scaling": {}}
    fleet = says.fleet
    mode = Mode.Name(fleet.mode).removeprefix("MODE_").lower()
    head = {"policy": fleet.policy, "mode": mode, "leader": fleet.leader, "warnings": list(fleet.warnings)}
    return {
        "fleet": {"now": head},
        "pools": {f"{one.model}|{one.pool}": pool(one) for one in fleet.models},
        "scaling": {one.decision_id: scaling(one) for one in says.decisions},
    }


def pool(one: ModelFleet) -> Section:
    """A pool in numbers, with the reason."""
    return {
        "model": one.model,
        "pool": one.pool or one.model,
        "ready": one.ready_count,
        "starting": one.starting_count,
        "draining": one.draining_count,
        "wanted": one.instances_wanted,
        "min": one.bounds.instances_min,
        "max": one.bounds.instances_max,
        "reason": one.reason,
        "flip": one.flip,
        "bound_by": one.bound_by,
        "lead_p50_s": round(one.lead_p50.ToMicroseconds() / 1e6, 1),
        "lead_p90_s": round(one.lead_p90.ToMicroseconds() / 1e6, 1),
        "gpu": f"{one.gpu_count}× {one.gpu}" if one.gpu_count > 1 else one.gpu,
        "region": one.region,
    }


def scaling(one: ScalingDecision) -> Section:
    """A decision of the autoscaler."""
    return {
        "at": ms(one.decision_time.ToMicroseconds()),
        "model": one.model,
        "pool": one.pool or one.model,
        "before": one.instances_before,
        "wanted": one.instances_wanted,
        "after": one.instances_after,
        "policy": one.policy,
        "reason": one.reason,
        "flip": one.flip,
        "mode": Mode.Name(one.mode).removeprefix("MODE_").lower(),
        "inputs": {name: round(value, 4) for name, value in sorted(one.inputs.items())},
    }


def shadow_sections(seen: Seen) -> dict[str, Section]:
    """Policies and length models that are asked beside the active ones."""
    return {
        "shadows": shadows(one for each in seen.schedulers for one in each.shadows),
        "trials": trials(seen.predictor),
        "accuracy": accuracy(seen.predictor),
    }


def shadows(told: Iterable[Shadow]) -> Section:
    """The shadows of the scheduler by name, kind and model; what replicas compared adds up."""
    rows: dict[str, Section] = {}
    for one in told:
        for row in one.rows:
            key = f"{one.name}|{row.kind}|{row.model}"
            costs = {cost.name: [cost.mean, cost.unit] for cost in row.costs}
            known = rows.get(key)
            if known is None:
                rows[key] = {
                    "name": one.name,
                    "kind": row.kind,
                    "policy": one.policies.get(row.kind, ""),
                    "model": row.model,
                    "compared": row.compared_count,
                    "different": row.different_count,
                    "costs": costs,
                }
                continue
            known["costs"] = _mean_costs(known["costs"], known["compared"], costs, row.compared_count)
            known["compared"] += row.compared_count
            known["different"] += row.different_count
    return dict(sorted(rows.items()))


def _mean_costs(one: Section, one_count: int, other: Section, other_count: int) -> Section:
    total = (one_count + other_count) or 1
    names = sorted({*one, *other})
    units = {name: costs[name][1] for costs in (one, other) for name in costs}
    means = {
        name: sum(costs[name][0] * count for costs, count in ((one, one_count), (other, other_count)) if name in costs)
        for name in names
    }
    return {name: [means[name] / total, units[name]] for name in names}


def trials(says: PredictorSays | None) -> Section:
    """Length models that are measured beside the active one."""
    chosen = [one for one in (says.models if says else ()) if one.shadow or one.active]
    return {
        f"{one.name}@{one.version}" if one.version else one.name: {
            "active": one.active,
            "outcomes": one.trial.outcome_count,
            "active_loss": round(one.trial.active_loss_tokens, 2),
            "shadow_loss": round(one.trial.shadow_loss_tokens, 2),
            "z": round(one.trial.z_score, 2),
        }
        for one in chosen
    }


def accuracy(says: PredictorSays | None) -> Section:
    """How well the newest predictions held, by predictor and model; applications of a model added up."""
    sums: dict[tuple[str, str], Mapping[str, float]] = {}
    for one in says.accuracy if says else ():
        key, count = (one.predictor, one.model), one.outcome_count
        before = sums.get(key, {"count": 0, "error": 0.0, "within": 0.0, "known": 0, "drifting": 0})
        known = count if one.HasField("coverage_p90") else 0
        sums[key] = {
            "count": before["count"] + count,
            "error": before["error"] + one.mae_tokens * count,
            "within": before["within"] + one.coverage_p90 * known,
            "known": before["known"] + known,
            "drifting": max(before["drifting"], int(one.is_drifting)),
        }
    return {f"{predictor}|{name}": _accuracy(predictor, name, one) for (predictor, name), one in sorted(sums.items())}


def _accuracy(predictor: str, name: str, one: Mapping[str, float]) -> Section:
    return {
        "predictor": predictor,
        "model": name,
        "count": one["count"],
        "mae_tokens": round(one["error"] / max(1, one["count"]), 1),
        "within_p90": round(one["within"] / one["known"], 3) if one["known"] else None,
        "drifting": bool(one["drifting"]),
    }


def ms(value_us: int) -> int:
    """Milliseconds since 1970, as browsers count; 0: unknown."""
    return value_us // US_PER_MS
