"""Trains the forecasters' networks on ServeGen's files, and writes each beside its description.

python -m forebay.train.workload_files --data FOLDER [--out FOLDER] [--without SERVICE] boosting|lstm
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.lstm import HISTORY_COUNT
from forebay.predictor.traffic.lags import LAG_COUNT, LAGS_VERSION
from forebay.predictor.traffic.nets import FOLDER
from forebay.predictor.traffic.series import Floats
from forebay.simulator.traces.servegen import RATE_WINDOW_S, read_rates
from forebay.train.workload import BoostingSettings, mixtures, train_boosting
from forebay.train.workload_lstm import LstmSettings, train_lstm

SERVICES = ("m-large", "m-small", "deepseek-r1")
SOURCE = (
    "alibaba/ServeGen {} (Apache-2.0): requests in 600 s windows, of the 60 biggest clients of a service alone, of all "
    "of them, and of 40 random mixtures"
)
MIXTURES_SEED = 1


def series_of(paths: Sequence[Path]) -> list[Floats]:
    """Training series of these files of rates."""
    rng = np.random.default_rng(MIXTURES_SEED)
    return [one for path in paths for one in mixtures(read_rates(path).counts, rng)]


def train(kind: str, paths: Sequence[Path]) -> tuple[bytes, Mapping[str, object]]:
    """The network in ONNX, with what is to be said of it."""
    libraries: tuple[str, ...]
    if kind == "lstm":
        content, _ = train_lstm(series_of(paths))
        told: dict[str, object] = {"history_count": HISTORY_COUNT, "settings": dataclasses.asdict(LstmSettings())}
        libraries = ("torch", "numpy")
    else:
        settings = BoostingSettings()
        content = train_boosting(series_of(paths), RATE_WINDOW_S * US_PER_S, settings)
        told = {"lags_version": LAGS_VERSION, "feature_count": LAG_COUNT, "settings": dataclasses.asdict(settings)}
        libraries = ("scikit-learn", "skl2onnx", "numpy")
    return content, {**told, "made_with": {name: version(name) for name in libraries}}


@click.command()
@click.argument("kind", type=click.Choice(("boosting", "lstm")))
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True)
@click.option("--without", default="", help="A service to leave out, to measure with.")
def main(kind: str, data: Path, out: Path, without: str) -> None:
    """Train a network of the forecasters on the files in a folder."""
    names = [name for name in SERVICES if name != without]
    paths = [next(data.glob(f"servegen_{name}_rates*.parquet")) for name in names]
    content, told = train(kind, paths)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{kind}.onnx").write_bytes(content)
    description = {
        "name": kind,
        "version": "1",
        "onnx_sha256": hashlib.sha256(content).hexdigest(),
        "trained_on": SOURCE.format(", ".join(names)),
        "data_files_sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        "licence": "Apache-2.0",
        **told,
    }
    (out / f"{kind}.json").write_text(json.dumps(description, indent=2) + "\n")
    click.echo(f"{out / kind}.onnx: {len(content):,} bytes")


if __name__ == "__main__":
    main()
