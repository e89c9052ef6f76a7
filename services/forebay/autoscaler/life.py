"""The life of one instance: which step follows from what its server and its owner say."""

from dataclasses import dataclass, replace

from forebay.core.fleet import Member, Origin
from forebay.core.values import Batching, Instance, InstanceState

REASON_LENGTH_MAX = 250
"""Characters; the contract allows 1,024 bytes."""
STARTING = (InstanceState.PROVISIONING, InstanceState.LOADING)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a server tells of the engine of one model; 0, empty and continuous mean that it does not tell."""

    concurrency_max: int = 0
    kv_tokens_max: int = 0
    context_tokens_max: int = 0
    profile: str = ""
    batching: Batching = Batching.CONTINUOUS


@dataclass(slots=True)
class Life:
    """One member of the fleet with what only the engine needs.

    `actuated`: the actuator has done its start. `restored`: it was there before this engine. `retiring`: why it is to
    be taken out, while nobody has agreed to that yet. `stopping`: a stop is under way. `expired`: its heartbeats
    stopped. `empty_us`: since when the scheduler has reported no lease in an unbroken row; None: it has not.
    `retry_us`: nothing is asked of the actuator before. `begun_us`: when it was taken in (None: before this engine),
    and `reached_us`: when its server answered first. `asked_us`: when the actuator was asked last. `doubtful`: its
    start had no answer, so it may be there or not: it counts until a stop says that it is gone. `alarm_count`: how
    often its drain raised an alarm.
    """

    member: Member
    actuated: bool
    seen_us: int
    restored: bool = False
    retiring: str = ""
    stopping: bool = False
    expired: bool = False
    probe_failures: int = 0
    empty_us: int | None = None
    retry_us: int = 0
    begun_us: int | None = None
    reached_us: int | None = None
    asked_us: int = 0
    doubtful: bool = False
    alarm_count: int = 0

    @property
    def instance(self) -> Instance:
        """The instance as it stands."""
        return self.member.instance

    @property
    def state(self) -> InstanceState:
        """Where it stands."""
        return self.member.instance.state

    @property
    def launched(self) -> bool:
        """Whether the autoscaler launched it and may stop it."""
        return self.member.origin is Origin.LAUNCHED

    @property
    def starting(self) -> bool:
        """Whether it will be ready, as far as one knows."""
        return self.state in STARTING and not self.retiring

    @property
    def ready(self) -> bool:
        """Whether it takes requests and is meant to go on."""
        return self.state is InstanceState.READY and not self.retiring

    @property
    def leaving(self) -> bool:
        """Whether it drains or is about to."""
        return self.state is InstanceState.DRAINING or bool(self.retiring)

    @property
    def stoppable(self) -> bool:
        """Whether the actuator may be asked to stop it."""
        return self.launched and (self.actuated or self.doubtful)

    @property
    def is_asking(self) -> bool:
        """Whether the actuator owes an answer."""
        return bool(self.retiring) or self.stopping or not (self.actuated or self.doubtful)

    @property
    def state_us(self) -> int:
        """When the state was entered."""
        return self.member.instance.state_us

    def enter(self, state: InstanceState, reason: str, now_us: int) -> None:
        """Steps into a state."""
        short = reason[:REASON_LENGTH_MAX]
        instance = replace(self.instance, state=state, state_reason=short, state_us=now_us)
        was_ready = self.member.was_ready or state is InstanceState.READY
        self.member = replace(self.member, instance=instance, was_ready=was_ready)
        self.probe_failures = 0

    def describe(self, instance: Instance) -> None:
        """Takes over what is known of the instance, but for where it stands in its life."""
        own = self.instance
        described = replace(instance, state=own.state, state_us=own.state_us, state_reason=own.state_reason)
        self.member = replace(self.member, instance=described)

    def learn(self, figures: Figures) -> bool:
        """Fills in what nobody has said of the instance; True when that changed something."""
        known = self.instance
        filled = replace(
            known,
            concurrency_max=known.concurrency_max or figures.concurrency_max,
            kv_tokens_max=known.kv_tokens_max or figures.kv_tokens_max,
            context_tokens_max=known.context_tokens_max or figures.context_tokens_max,
            profile=known.profile or figures.profile,
            batching=max(known.batching, figures.batching),
        )
        self.member = replace(self.member, instance=filled)
        return filled != known

    def renew(self, now_us: int) -> None:
        """A sign of life of its owner."""
        self.seen_us, self.expired = now_us, False

    def expiry_us(self, forget_us: int) -> int | None:
        """When its owner has been silent for too long, or is to be forgotten; None: never."""
        if not self.member.ttl_us:
            return None
        return self.seen_us + self.member.ttl_us + (forget_us if self.expired else 0)

    def is_settled(self, settled_us: int, now_us: int) -> bool:
        """Whether its start worked out: what was ready has been as it is for long enough, or over a restart."""
        stood = self.state in (InstanceState.READY, InstanceState.LOST) and self.member.was_ready
        return stood and (self.restored or now_us - self.state_us >= settled_us)

    def probed(self, live: bool, ready: bool, failures_max: int, now_us: int) -> bool:
        """Takes the answer of the server; True when the state changed."""
        if self.expired or self.state is InstanceState.DRAINING:
            return False
        if live and self.reached_us is None:
            self.reached_us = now_us
        if live and (ready or self.state is not InstanceState.READY):
            return self._answered(ready, now_us)
        return self._failed(live, failures_max, now_us)

    def unanswered(self, live: bool, failures_max: int) -> bool:
        """Counts failures while it drains; True when the server has been silent for long enough to be gone."""
        self.probe_failures = 0 if live else self.probe_failures + 1
        return self.probe_failures >= failures_max

    def _answered(self, ready: bool, now_us: int) -> bool:
        self.probe_failures = 0
        state = InstanceState.READY if ready else InstanceState.LOADING
        if state is self.state:
            return False
        self.enter(state, "the model takes requests" if ready else "the server answers and loads the model", now_us)
        return True

    def _failed(self, live: bool, failures_max: int, now_us: int) -> bool:
        self.probe_failures += 1
        if self.state in (InstanceState.PROVISIONING, InstanceState.LOST) or self.probe_failures < failures_max:
            return False
        cause = "the server answers, but the model is not ready" if live else "the server does not answer"
        self.enter(InstanceState.LOST, f"{cause}, {self.probe_failures} probes in a row", now_us)
        return True
