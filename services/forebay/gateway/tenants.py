"""Who sends a request: the tenant whose key it bears."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from forebay.core.errors import ConfigError, PermissionDenied, Unauthenticated

TENANT = "x-forebay-tenant"
AUTHORIZATION = "authorization"
_SCHEME = "bearer "
_NAME = re.compile(r"[\x21-\x7e]{1,128}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest(key: str) -> str:
    """What the configuration holds of a key: its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """The digests of the keys of one tenant; several, so that one can take over from another."""

    keys_sha256: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(_DIGEST.fullmatch(one) for one in self.keys_sha256):
            raise ValueError("keys_sha256 must be lists of 64 hexadecimal digits each; see forebay tenants add")


class Keys:
    """Tells by its key whose request it is. Without any tenant nobody needs one, and the header names the tenant.

    Keys are compared as digests, each in constant time and always all of them, so that timing tells nothing. Raises
    ConfigError where two tenants have the same key or a name cannot be a header.
    """

    def __init__(self, tenants: Mapping[str, TenantKeys]) -> None:
        self._owners = [(one.encode(), name) for name, keys in tenants.items() for one in keys.keys_sha256]
        if len({one for one, _ in self._owners}) < len(self._owners):
            raise ConfigError("two tenants have the same key, or one has it twice; give each its own")
        for name in tenants:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"the name of tenant {name!r} must be 1 to 128 visible ASCII characters")
        self.required = bool(tenants)

    def tenant(self, headers: Mapping[str, str]) -> str:
        """Whose request it is; empty where no keys are required.

        Raises Unauthenticated without a known key, and PermissionDenied where the header names another tenant.
        """
        if not self.required:
            return ""
        tenant = self._owner(_bearer(headers.get(AUTHORIZATION, "")))
        claimed = headers.get(TENANT, "")
        if claimed and claimed != tenant:
            text = f"the key is not of the tenant that the header {TENANT} names; leave the header out"
            raise PermissionDenied(text, reason="TENANT_NOT_YOURS")
        return tenant

    def _owner(self, key: str) -> str:
        given, found = digest(key).encode(), ""
        for known, name in self._owners:
            if hmac.compare_digest(known, given):
                found = name
        if not found:
            raise Unauthenticated("the key is unknown; check it or ask for a new one", reason="API_KEY_UNKNOWN")
        return found


NO_KEYS = Keys({})
"""Nobody needs a key."""


def _bearer(authorization: str) -> str:
    if not authorization.lower().startswith(_SCHEME):
        text = "a key is needed: send the header Authorization: Bearer KEY"
        raise Unauthenticated(text, reason="API_KEY_MISSING")
    return authorization[len(_SCHEME) :].strip()
