import pytest

from forebay.core.values import SloClass
from forebay.scheduler.policy.admission import ADMISSIONS
from forebay.scheduler.policy.admission.base import AdmissionView, Admitted, Later, Quota, looks_ahead
from forebay.scheduler.policy.admission.open import Open
from forebay.scheduler.policy.admission.scorpio import Scorpio
from forebay.scheduler.policy.admission.slo_feasible import SloFeasible
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


SOON = VIEW._replace(slack_us=2_000_000, wait_us=1_500_000, tightest_itl_us=200_000, itl_us=200_000, virtual_count=6.0)


def test_slo_feasible_admits_what_is_in_time_and_tells_others_when_they_would_be() -> None:
    assert SloFeasible().admit(SOON) == Admitted()
    said = SloFeasible().admit(SOON._replace(wait_us=9_000_000))
    assert isinstance(said, Later)
    assert said.reason == "SLO_INFEASIBLE"
    assert said.retry_delay_us == 7_000_000
    assert "9.0 s" in said.message
    assert "2.0 s" in said.message


def test_slo_feasible_counts_the_wait_by_its_margin_and_admits_everything_at_none() -> None:
    assert isinstance(SloFeasible(margin=1.5).admit(SOON), Later)
    assert SloFeasible(margin=0).admit(SOON._replace(wait_us=10**12)) == Admitted()


def test_scorpio_refuses_what_cannot_be_in_time() -> None:
    said = Scorpio().admit(SOON._replace(wait_us=9_000_000))
    assert isinstance(said, Later)
    assert said.reason == "SLO_INFEASIBLE"


@pytest.mark.parametrize(
    ("virtual", "itl_us", "enters"), [(7.0, 200_000, True), (7.1, 200_000, False), (7.8, 1_000_000, True)]
)
def test_scorpio_counts_requests_by_how_tight_their_promise_is(virtual: float, itl_us: int, enters: bool) -> None:
    # Two instances with four credits each; one at a fifth of the tightest promise costs a fifth.
    said = Scorpio(virtual_count_max=4).admit(SOON._replace(virtual_count=virtual, itl_us=itl_us, ready_count=2))
    assert isinstance(said, Admitted) is enters
    assert enters or (isinstance(said, Later) and said.reason == "VIRTUAL_BATCH_FULL")


def test_scorpio_lets_a_model_that_runs_nothing_begin() -> None:
    assert Scorpio(virtual_count_max=0.5).admit(SOON._replace(lease_count=0, virtual_count=0.0)) == Admitted()


def test_policies_that_ask_for_it_are_known_to_look_ahead() -> None:
    ahead = {name for name, admission in ADMISSIONS.items() if looks_ahead(admission())}
    assert ahead == {"scorpio", "slo_feasible"}
