import pytest

from forebay.core.values import SloClass
from forebay.scheduler.policy.admission.base import AdmissionView, Admitted, Later, Quota
from forebay.scheduler.policy.admission.open import Open
from forebay.scheduler.policy.admission.tenant_quota import TenantQuota
from forebay.scheduler.policy.admission.token_budget import TokenBudget

VIEW = AdmissionView(
    model="m",
    slo_class=SloClass.INTERACTIVE_NORMAL,
    tenant="default",
    prompt_tokens=10,
    predicted_tokens=100,
    tokens_in_flight=700,
    tokens_held=200,
    lease_count=7,
    held_count=2,
    ready_count=1,
    tokens_per_s=50.0,
)


def test_open_admits_whatever_comes() -> None:
    assert Open().admit(VIEW._replace(tokens_held=10**9)) == Admitted()


def test_token_budget_admits_a_request_that_just_fits() -> None:
    assert TokenBudget(tokens_max=1_000).admit(VIEW) == Admitted()


def test_token_budget_sends_away_a_request_that_is_one_token_too_long() -> None:
    said = TokenBudget(tokens_max=999).admit(VIEW)
    assert isinstance(said, Later)
    assert said.reason == "TOKEN_BUDGET_EXHAUSTED"
    assert "999" in said.message


@pytest.mark.parametrize(("tokens_max", "seconds"), [(950, 1.0), (500, 10.0), (100, 18.0)])
def test_the_time_to_come_back_is_when_the_tokens_too_many_are_generated(tokens_max: int, seconds: float) -> None:
    # 1,000 tokens are asked for and 50 are generated a second; more than the 900 that are there cannot be waited for.
    said = TokenBudget(tokens_max=tokens_max).admit(VIEW)
    assert isinstance(said, Later)
    assert said.retry_delay_us == round(seconds * 1e6)


def test_without_a_known_pace_the_configured_delay_counts() -> None:
    said = TokenBudget(tokens_max=500, retry_delay_s=3.0).admit(VIEW._replace(tokens_per_s=0.0))
    assert isinstance(said, Later)
    assert said.retry_delay_us == 3_000_000


def test_an_idle_model_takes_even_a_request_larger_than_its_budget() -> None:
    idle = VIEW._replace(tokens_in_flight=0, tokens_held=0, predicted_tokens=5_000)
    assert TokenBudget(tokens_max=1_000).admit(idle) == Admitted()


@pytest.mark.parametrize("wrong", [{"tokens_max": 0}, {"retry_delay_s": 0.0}])
def test_token_budget_refuses_parameters_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        TokenBudget(**wrong)  # type: ignore[arg-type]


def test_tenant_quota_admits_whoever_has_none() -> None:
    assert TenantQuota().admit(VIEW) == Admitted()


@pytest.mark.parametrize(("tokens", "promised", "delay_us"), [(109, 0, 500_000), (-40, 0, 75_000_000), (200, 100, 5e6)])
def test_tenant_quota_tells_when_the_tokens_are_there(tokens: float, promised: float, delay_us: float) -> None:
    # 10 tokens of prompt and 100 of answer, at 2 tokens a second.
    said = TenantQuota().admit(VIEW._replace(quota=Quota(tokens, 1_000, 2, promised)))
    assert isinstance(said, Later)
    assert said.reason == "TENANT_QUOTA_EXHAUSTED"
    assert said.retry_delay_us == delay_us
    assert said.is_promise
    assert "120 tokens a minute" in said.message


def test_tenant_quota_admits_what_just_fits() -> None:
    assert TenantQuota().admit(VIEW._replace(quota=Quota(110, 1_000, 2))) == Admitted()
    assert TenantQuota().admit(VIEW._replace(quota=Quota(210, 1_000, 2, 100))) == Admitted()


def test_tenant_quota_admits_a_request_larger_than_the_bucket_when_that_is_full() -> None:
    assert TenantQuota().admit(VIEW._replace(quota=Quota(50, 50, 2))) == Admitted()
    said = TenantQuota().admit(VIEW._replace(quota=Quota(49, 50, 2)))
    assert isinstance(said, Later)
    assert said.retry_delay_us == 500_000


def test_tenant_quota_keeps_a_promise_though_nothing_is_left() -> None:
    assert TenantQuota().admit(VIEW._replace(quota=Quota(-900, 1_000, 2, 100, is_promised=True))) == Admitted()
