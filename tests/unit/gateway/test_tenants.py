import pytest

from forebay.core.errors import ConfigError, PermissionDenied, Unauthenticated
from forebay.gateway.config import Config
from forebay.gateway.tenants import NO_KEYS, Keys, TenantKeys, digest

KEYS = Keys({"acme": TenantKeys((digest("k1"), digest("k2"))), "globex": TenantKeys((digest("k3"),))})


def bearing(key: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **headers}


def test_a_key_names_its_tenant_and_a_tenant_may_have_several() -> None:
    assert [KEYS.tenant(bearing(key)) for key in ("k1", "k2", "k3")] == ["acme", "acme", "globex"]


def test_the_scheme_may_be_written_in_any_case() -> None:
    assert KEYS.tenant({"authorization": "bEARER  k1 "}) == "acme"


@pytest.mark.parametrize("headers", [{}, {"authorization": "k1"}, {"authorization": "Basic k1"}])
def test_without_a_key_nobody_enters(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated, match="Bearer") as caught:
        KEYS.tenant(headers)
    assert caught.value.code == "API_KEY_MISSING"


@pytest.mark.parametrize("key", ["k4", "", digest("k1"), "K1"])
def test_an_unknown_key_does_not_open_nor_does_a_digest(key: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        KEYS.tenant(bearing(key))
    assert caught.value.code == "API_KEY_UNKNOWN"
    assert not key or key not in caught.value.message.split()


def test_the_header_may_repeat_the_tenant_and_not_claim_another() -> None:
    named = {"x-forebay-tenant": "acme"}
    assert KEYS.tenant(bearing("k1", **named)) == "acme"
    with pytest.raises(PermissionDenied):
        KEYS.tenant(bearing("k3", **named))


def test_without_tenants_nobody_needs_a_key() -> None:
    assert not NO_KEYS.required
    assert NO_KEYS.tenant({"x-forebay-tenant": "acme"}) == ""


def test_two_tenants_must_not_have_the_same_key() -> None:
    with pytest.raises(ConfigError, match="same key"):
        Keys({"a": TenantKeys((digest("k"),)), "b": TenantKeys((digest("k"),))})


def test_a_tenant_s_name_must_fit_into_a_header() -> None:
    with pytest.raises(ConfigError, match="visible"):
        Keys({"a b": TenantKeys((digest("k"),))})


def test_the_configuration_holds_digests_and_refuses_anything_else() -> None:
    assert Config(tenants={"acme": {"keys_sha256": [digest("k")]}}).keys().tenant(bearing("k")) == "acme"
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        Config(tenants={"acme": {"keys_sha256": ["k"]}})
    with pytest.raises(ConfigError, match="did you mean"):
        Config(tenants={"acme": {"key_sha256": []}})
