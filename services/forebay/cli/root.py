"""The root of the command line: its commands, and how errors become one sentence and an exit status."""

from typing import Any

import click
import grpc

from forebay.cli.batch import batch
from forebay.cli.calibrate import calibrate
from forebay.cli.compare import compare
from forebay.cli.conformance import conformance
from forebay.cli.demo import demo
from forebay.cli.doctor import doctor
from forebay.cli.evaluate import evaluate
from forebay.cli.explain import explain
from forebay.cli.export import export
from forebay.cli.fleet_page import fleet
from forebay.cli.load import load
from forebay.cli.predictors import predictors
from forebay.cli.profile import profile
from forebay.cli.scale import scale
from forebay.cli.shadows import shadows
from forebay.cli.simulate import simulate
from forebay.cli.status import status
from forebay.cli.tenants import tenants
from forebay.cli.top import top
from forebay.cli.train import train
from forebay.cli.up import down, up
from forebay.core.errors import ConfigError, ForebayError
from forebay.wire.errors import from_rpc_error


class WrongInput(click.ClickException):
    """What the caller gave is wrong."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands may raise the errors of our tree and of gRPC."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; errors that are somebody's to mend come out as one sentence."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise WrongInput(error.message) from error
        except ForebayError as error:
            raise click.ClickException(error.message) from error
        except grpc.RpcError as error:
            raise click.ClickException(from_rpc_error(error).message + _hint(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer needs them."""
        return list(self.commands)


def _hint(error: grpc.RpcError) -> str:
    is_away = isinstance(error, grpc.Call | grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNAVAILABLE
    return "; is it running? see: forebay status, and start it with: forebay up" if is_away else ""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="forebay", prog_name="forebay")
def main() -> None:
    """Forebay manages large language models on a fleet of NVIDIA Tritons.

    \b
    First steps:
      forebay up                 start everything on this machine, with an emulated fleet
      forebay load --limit 50    send it 50 requests of the sample trace
      forebay status             see the fleet, the queues and the services
      forebay fleet              see how many instances there are, why, and what would change it
      forebay explain ID         see why a request went where it went
      forebay doctor             see what is missing on this machine
    """


for command in (up, down, load, status, batch, explain, simulate, compare, doctor, demo, train, evaluate):
    main.add_command(command)
main.add_command(top)
main.add_command(fleet)
main.add_command(scale)
main.add_command(predictors)
main.add_command(shadows)
main.add_command(calibrate)
main.add_command(profile)
main.add_command(export)
main.add_command(tenants)
main.add_command(conformance)
