from pathlib import Path

from click.testing import CliRunner, Result
from rich.console import Console

from forebay.cli.root import main
from forebay.cli.state import addresses_from
from forebay.cli.tenants import wants_keys
from forebay.cli.up import suggest
from forebay.gateway.config import Config as GatewayConfig
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.wire.main import section


def add(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["tenants", "add", *arguments, "--config", str(path)])


def test_the_key_that_is_printed_opens_and_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "forebay.toml"
    path.write_text('[gateway]\nregion = "east"')
    key = add(path, "acme", "--weight", "2", "--tokens-per-minute", "600").output.splitlines()[0]
    gateway = section(str(path), "gateway", GatewayConfig)
    assert gateway.region == "east"
    assert gateway.keys().tenant({"authorization": f"Bearer {key}"}) == "acme"
    assert key not in path.read_text()
    tenant = section(str(path), "scheduler", SchedulerConfig).tenant_configs()["acme"]
    assert (tenant.weight, tenant.tokens_per_minute) == (2.0, 600)


def test_who_starts_a_stack_is_told_whether_a_key_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "forebay.toml"
    path.write_text("")
    told = []
    for _ in range(2):
        console = Console(width=200)
        with console.capture() as capture:
            suggest(console, addresses_from(7000), "llama-8b", wants_keys(path))
        told.append("Bearer $FOREBAY_API_KEY" in capture.get())
        add(path, "acme")
    assert told == [False, True]


def test_every_tenant_gets_a_key_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    keys = [add(path, name).output.splitlines()[0] for name in ("acme", "globex")]
    opened = section(str(path), "gateway", GatewayConfig).keys()
    assert [opened.tenant({"authorization": f"Bearer {key}"}) for key in keys] == ["acme", "globex"]


def test_a_tenant_is_not_added_twice(tmp_path: Path) -> None:
    path = tmp_path / "forebay.toml"
    add(path, "acme")
    before = path.read_text()
    again = add(path, "acme")
    assert again.exit_code == 1
    assert "already" in again.output
    assert path.read_text() == before


def test_what_makes_no_sense_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "forebay.toml"
    path.write_text("[gateway]\ntenants = {}\n")
    for arguments in (["a b"], ["acme", "--weight", "0"], ["acme"]):
        assert add(path, *arguments).exit_code == 2
    assert path.read_text() == "[gateway]\ntenants = {}\n"
