"""What every protocol's request becomes: the scheduler's view of it, with an id and the labels of its sender."""

import re
import uuid
from collections.abc import Mapping

from forebay.core.errors import InvalidArgument
from forebay.core.prompts import excerpt
from forebay.core.tokens import TokenEstimator
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, SloClass
from forebay.gateway.completion import Completion
from forebay.gateway.config import SLO_CLASSES, Config
from forebay.gateway.tenants import TENANT

REQUEST_ID = "x-request-id"
SLO_CLASS, APPLICATION = "x-forebay-slo-class", "x-forebay-application"
_SESSION, DEADLINE_S = "x-forebay-session", "x-forebay-deadline-s"
_DEADLINE_MAX_S = 604_800.0
_LABEL_BYTES_MAX = 128
_PROMPT_TOKENS_MAX = 1_048_576
_TEMPERATURE_MAX = 2.0
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_ID_KEPT = 90


def client_id(headers: Mapping[str, str]) -> str:
    """The client's name for its request, or one of ours where it gives none that can be repeated in a header."""
    given = headers.get(REQUEST_ID, "")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


def tenant_of(headers: Mapping[str, str]) -> str:
    """Whose request it is. Raises InvalidArgument for a bad header."""
    return _label(headers, TENANT) or "default"


def application_of(headers: Mapping[str, str]) -> str:
    """What the request is for; empty where nobody says. Raises InvalidArgument for a bad header."""
    return _label(headers, APPLICATION)


class Intake:
    """Makes requests; counts their prompt tokens by estimate, since the models keep their tokenizers to themselves."""

    def __init__(self, config: Config, estimator: TokenEstimator) -> None:
        self._config = config
        self._estimator = estimator

    def count(self, model: str, text: str) -> int:
        """Tokens of a prompt, by estimate."""
        return min(self._estimator.estimate(model, text), _PROMPT_TOKENS_MAX)

    def of(self, named: str, completion: Completion, headers: Mapping[str, str]) -> InferenceRequest:
        """The request of a completion that the client calls `named`. Raises InvalidArgument for a bad header."""
        return self.request(
            named,
            completion.model,
            completion.text,
            completion.tokens_max,
            completion.temperature,
            headers,
            turn_number=completion.turn_number,
            system_digest=completion.system_digest,
        )

    def request(
        self,
        client_id: str,
        model: str,
        text: str,
        tokens_max: int,
        temperature: float,
        headers: Mapping[str, str],
        *,
        turn_number: int = 0,
        system_digest: str = "",
    ) -> InferenceRequest:
        """The request as the scheduler sees it; the text must not be empty. Raises InvalidArgument for a bad header.

        Its id begins with the client's and is unique even where clients repeat theirs.
        """
        return InferenceRequest(
            request_id=f"{client_id[:_ID_KEPT]}-{uuid.uuid4().hex[:12]}",
            model=model,
            prompt_tokens=self.count(model, text),
            slo_class=_slo_class(headers.get(SLO_CLASS, "") or self._config.slo_class_default),
            tokens_max=tokens_max,
            tenant=tenant_of(headers),
            application=application_of(headers),
            prompt_head=excerpt(text, self._config.prompt_head_bytes),
            temperature=min(max(0.0, temperature), _TEMPERATURE_MAX),
            region=self._config.region,
            turn_number=turn_number,
            system_digest=system_digest,
            session=_label(headers, _SESSION),
            deadline_us=_deadline_us(headers.get(DEADLINE_S, "")),
        )


def _slo_class(name: str) -> SloClass:
    if name not in SLO_CLASSES:
        text = f"must be one of {', '.join(SLO_CLASSES)}"
        raise InvalidArgument(f"header {SLO_CLASS} {text}", violations={SLO_CLASS: text})
    return SloClass(SLO_CLASSES.index(name) + 1)


def _deadline_us(text: str) -> int:
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _DEADLINE_MAX_S:
        said = f"must be a number of seconds from 0 to {_DEADLINE_MAX_S:,.0f}"
        raise InvalidArgument(f"header {DEADLINE_S} {said}", violations={DEADLINE_S: said})
    return round(seconds * US_PER_S)


def _label(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if len(value.encode()) > _LABEL_BYTES_MAX:
        text = f"has more than {_LABEL_BYTES_MAX} bytes"
        raise InvalidArgument(f"header {name} {text}", violations={name: text})
    return value
