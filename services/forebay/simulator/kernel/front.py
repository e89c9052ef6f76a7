"""What stands before another kernel: passes on all that it does not do itself."""

from forebay.core.instance import EngineFlags, EngineProfile, EngineView
from forebay.simulator.kernel.base import Kernel


class FrontKernel:
    """The part of `kernel.base.Kernel` in which only instances occur, done by the kernel behind."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def now_ps(self) -> int:
        """Where the clock stands."""
        return self._kernel.now_ps

    def add(self, profile: EngineProfile, flags: EngineFlags, batcher: str = "chunked_prefill") -> int:
        """A new, empty instance and its number."""
        return self._kernel.add(profile, flags, batcher)

    def refusal(self, instance: int, prompt_tokens: int, output_tokens: int, output_tokens_max: int) -> str | None:
        """Why such a request could never run on the instance, or None."""
        return self._kernel.refusal(instance, prompt_tokens, output_tokens, output_tokens_max)

    def view(self, instance: int) -> EngineView:
        """The instance as of now."""
        return self._kernel.view(instance)

    def retime(self, instance: int, profile: EngineProfile, now_ps: int) -> None:
        """Uses another profile from the next iteration on."""
        self._kernel.retime(instance, profile, now_ps)

    def limit(self, instance: int, max_seqs: int, max_batch_tokens: int, now_ps: int) -> None:
        """Plans with fewer seats and tokens than the engine has, from the next iteration on."""
        self._kernel.limit(instance, max_seqs, max_batch_tokens, now_ps)

    def hang(self, instance: int, now_ps: int) -> None:
        """The instance stops making progress."""
        self._kernel.hang(instance, now_ps)

    def resume(self, instance: int, now_ps: int) -> None:
        """The instance goes on after `hang`."""
        self._kernel.resume(instance, now_ps)
