"""Where one more instance of a model is loaded: the running server that it fits best."""

from collections.abc import Collection, Iterable

from forebay.autoscaler.config import Config, ModelConfig, ServerConfig
from forebay.autoscaler.life import Life
from forebay.core.units import US_PER_S

SHUN_US = 600 * US_PER_S
"""How long a server where a start has failed comes after those where none has."""


def free_servers(
    model: ModelConfig, config: Config, lives: Iterable[Life], shunned: Collection[str] = ()
) -> list[ServerConfig]:
    """The servers that the model may be loaded on and is not on yet, the best one first.

    Best fit: where memory is known, the server that has the least left once the model is there, so that large holes
    stay for large models; servers of unknown memory come after, those with the most room by number first. What drains
    or is being unloaded still takes its memory. Those that are `shunned` come last, so that one that is broken does not
    keep a model from the others.
    """
    loaded: dict[str, list[str]] = {}
    for life in lives:
        loaded.setdefault(life.instance.server_id, []).append(life.instance.model)
    sizes: dict[str, int] = {}
    for one in config.models:
        sizes[one.name] = max(one.memory_mb, sizes.get(one.name, 0))

    def room(server: ServerConfig) -> int:
        return server.models_max - len(loaded.get(server.server_id, ()))

    def left_mb(server: ServerConfig) -> int:
        return server.memory_mb - model.memory_mb - sum(sizes.get(name, 0) for name in loaded.get(server.server_id, ()))

    def key(server: ServerConfig) -> tuple[bool, bool, int, int, str]:
        is_known, is_last = _is_known(model, server), server.server_id in shunned
        return (is_last, not is_known, left_mb(server) if is_known else 0, -room(server), server.server_id)

    allowed = (server for server in config.servers if server.server_id in model.servers)
    able = [server for server in allowed if room(server) > 0 and model.name not in loaded.get(server.server_id, ())]
    return sorted((one for one in able if not _is_known(model, one) or left_mb(one) >= 0), key=key)


def _is_known(model: ModelConfig, server: ServerConfig) -> bool:
    return model.memory_mb > 0 and server.memory_mb > 0
