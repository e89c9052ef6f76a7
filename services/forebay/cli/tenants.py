"""`forebay tenants`: gives tenants their keys, shares and quotas."""

import re
import secrets
import tomllib
from pathlib import Path

import click

from forebay.core.config import from_mapping
from forebay.core.errors import AlreadyExists, ConfigError
from forebay.gateway.tenants import digest
from forebay.scheduler.config import TenantConfig

KEY_PREFIX = "fb-"
KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@click.group()
def tenants() -> None:
    """Give tenants their keys, shares and quotas."""


@tenants.command()
@click.argument("name")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="forebay.toml to extend."
)
@click.option("--weight", default=1.0, show_default=True, help="Share where tenants compete (orderer vtc).")
@click.option("--tokens-per-minute", default=0, show_default=True, help="Quota, prompts and answers; 0: none.")
def add(name: str, config: Path, weight: float, tokens_per_minute: int) -> None:
    """Add the tenant NAME to a configuration file and print its key, this once.

    The file gets the key's SHA-256 and never the key. As soon as one tenant has a key, every request needs one.

    \b
    Examples:
      forebay tenants add acme --config forebay.toml
      forebay tenants add acme --config forebay.toml --weight 2 --tokens-per-minute 60000
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    settings = {"weight": weight, "tokens_per_minute": tokens_per_minute}
    from_mapping(TenantConfig, settings, f"scheduler.tenants.{name}")
    extend(config, name, digest(key), settings)
    click.echo(key)
    click.echo(f"send it as Authorization: Bearer KEY; {config} holds only its SHA-256", err=True)
    if tokens_per_minute:
        click.echo('the quota counts where [scheduler] says admission = "tenant_quota"', err=True)


def wants_keys(config: Path) -> bool:
    """Whether a tenant of the configuration has a key, so that every request needs one."""
    tenants = tomllib.loads(config.read_text()).get("gateway", {}).get("tenants", {})
    return any(one.get("keys_sha256") for one in tenants.values())


def extend(config: Path, name: str, key_sha256: str, settings: dict[str, float]) -> None:
    """Adds the tenant's tables at the end of the file, which may be new.

    Raises ConfigError for a name that is no name or a file that is no TOML, AlreadyExists where the tenant is there.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a tenant: use up to 64 letters, digits, '-' and '_'")
    text = config.read_text() if config.exists() else ""
    tables = _parsed(text, config)
    for section in ("gateway", "scheduler"):
        if name in tables.get(section, {}).get("tenants", {}):
            raise AlreadyExists(f"{config} has a table [{section}.tenants.{name}] already; change that one")
    lines = [f"{setting} = {value}" for setting, value in settings.items()]
    added = f'[gateway.tenants.{name}]\nkeys_sha256 = ["{key_sha256}"]\n\n[scheduler.tenants.{name}]\n'
    longer = (text.rstrip("\n") + "\n\n" if text else "") + added + "\n".join(lines) + "\n"
    _parsed(longer, config)
    config.write_text(longer)


def _parsed(text: str, config: Path) -> dict[str, dict[str, dict[str, object]]]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        text = f"cannot add tables to {config}: {error}; write its tenants as tables of their own"
        raise ConfigError(text) from error
