"""How well lengths are predicted, beside what is usual, measured in the same run on prompts that nobody trained on.

Alpaca prompts with the longest of four answers of Vicuna (test: `alpaca_index % 5 == 0`, and grouped cross-validation),
a mix of six kinds of applications, applications and models that training has not seen, the 90 % bound as the
predictor's own engine gives it to a stream of questions and outcomes, also where the answers grow on the way, and the
shipped model on such streams. All models but the shipped one are trained here and thrown away. Rows that draw by chance
are means over seeds, with their standard deviation. Without the data (FOREBAY_DATA or ../shared/data) there is nothing
to measure, and it says so.

Bar: Alpaca MAE 10 % below boosting's and Kendall's tau 0.60; mix MAE <= 7.5; bound 89-91 %, 85-95 % in each third by
predicted length, reserve ratio <= 1.55.
Run: PYTHONPATH=services:clients/python python -m benchmarks.length_accuracy [--quick] [--json FILE] [--only PART]
     [--seeds N] [--family NAME]...
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import click
import numpy as np
from scipy.stats import kendalltau

from benchmarks import common
from forebay.core.errors import ForebayError
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.build import build_engine, opener
from forebay.predictor.config import Config
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.policy.length import Histogram, InputRatio, LengthPredictor
from forebay.predictor.store_files import FolderModelStore
from forebay.train.data import Examples
from forebay.train.family import family
from forebay.train.folds import folds

SEEDS = (1, 2, 3, 4, 5)
FAMILIES = ("fast", "magnus", "semantic", "preserve", "finetuned")
FOLDS = 5
SLICE_COUNT = 16
QUICK_SHARE = 4
OUTCOME_COUNTS = (0, 10, 30, 100)
ASKED_COUNT = 300
WARM_COUNT = 100
"""Outcomes before the bound is scored: fewer say nothing of 90 %."""
POINTS = ("MAE tokens", "±", "Acc-50", "Acc-100", "tau", "seeds", "s a seed")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    quick: bool
    seeds: Sequence[int]
    families: Sequence[str]


Predict = Callable[[Examples, Examples, int], np.ndarray]


# Models


def trained(name: str, learnt: Examples, seed: int) -> LengthPredictor:
    """A predictor of a family, trained on these examples."""
    made = family(name).run(learnt, seed, lambda step: None)
    metadata = {key: value if isinstance(value, str) else str(value) for key, value in made.metadata.items()}
    model = PredictorModel(metadata["name"], ModelKind.LENGTH, "1", metadata=metadata)
    return opener(Config(provider="cpu"))(model, made.content).policy


def of_family(name: str) -> Predict:
    """The medians of a family's model, before any outcome."""

    def predict(learnt: Examples, asked: Examples, seed: int) -> np.ndarray:
        return medians(trained(name, learnt, seed), asked.queries)

    return predict


def medians(policy: LengthPredictor, queries: Sequence[InferenceRequest]) -> np.ndarray:
    return np.array([one.quantiles.p50 for one in policy.predict(queries)], dtype=np.float64)


def families(plan: Plan) -> dict[str, Predict]:
    """The families that can be trained here; what others lack is printed."""
    found: dict[str, Predict] = {}
    tiny = Examples((), np.empty(0), np.empty(0, dtype=str), np.empty(0, dtype=np.int64))
    for name in plan.families:
        try:
            family(name)
            trained(name, tiny, 0)
        except ForebayError as error:
            if "too few" not in error.message:
                print(f"{name}: left out: {error.message}")
                continue
        found[f"forebay {name}"] = of_family(name)
    return found


def fewer(learnt: Examples, plan: Plan) -> Examples:
    """Some of the examples where there is little time."""
    return learnt.where(np.arange(len(learnt)) % QUICK_SHARE == 0) if plan.quick else learnt


# Points


def score(predicted: np.ndarray, actual: np.ndarray) -> tuple[float, float, float, float]:
    errors = np.abs(predicted - actual)
    tau = 0.0 if np.ptp(predicted) == 0 else float(kendalltau(predicted, actual).statistic)
    return float(errors.mean()), float((errors <= 50).mean()), float((errors <= 100).mean()), tau


def rows_of(name: str, predict: Predict, learnt: Examples, asked: Examples, seeds: Sequence[int]) -> list[common.Cell]:
    began = time.perf_counter()
    found = np.array([score(predict(learnt, asked, seed), asked.tokens) for seed in seeds])
    seconds = (time.perf_counter() - began) / len(seeds)
    mae, acc_50, acc_100, tau = found.mean(axis=0).tolist()
    return [name, mae, float(found[:, 0].std()), acc_50, acc_100, tau, len(seeds), seconds]


def seeds_of(name: str, plan: Plan) -> Sequence[int]:
    """One seed where nothing is drawn, or where a training takes minutes."""
    alone = name in ("constant", "length + words, line per application") or name.endswith(
        ("semantic", "preserve", "finetuned")
    )
    return plan.seeds[:1] if alone else plan.seeds


def measure_alpaca(report: common.Report, plan: Plan) -> None:
    from benchmarks import length_baselines as usual
    from benchmarks.length_data import alpaca

    examples, _, tested = alpaca()
    learnt, asked = fewer(examples.where(~tested), plan), examples.where(tested)
    rivals: dict[str, Predict] = {
        "constant": usual.constant,
        "length only, forest": usual.length_only,
        "Magnus forest, folded words": usual.magnus_forest,
        "TF-IDF + boosting": usual.boosting,
    }
    every = {**rivals, **families(plan)}
    rows = [rows_of(name, one, learnt, asked, seeds_of(name, plan)) for name, one in every.items()]
    title = (
        f"Alpaca, longest of 4 answers of Vicuna-7B: {len(learnt)} to learn from, {len(asked)} asked (index % 5 == 0)"
    )
    report.table(title, ("predictor", *POINTS), rows)
    maes = {str(row[0]): float(row[1]) for row in rows}
    report.figures["alpaca_boosting_mae_tokens"] = maes["TF-IDF + boosting"]
    for row in rows[len(rivals) :]:
        name = str(row[0]).split()[-1]
        report.figures[f"alpaca_{name}_mae_tokens"] = float(row[1])
        report.figures[f"alpaca_{name}_tau"] = float(row[5])
    if not plan.quick:
        _cross_validate(
            report, examples, {name: every[name] for name in ("constant", "TF-IDF + boosting", "forebay fast")}
        )


def _cross_validate(report: common.Report, examples: Examples, every: dict[str, Predict]) -> None:
    rows: list[list[common.Cell]] = []
    for name, predict in every.items():
        found = np.zeros(len(examples))
        for fit, test in folds(examples.groups, FOLDS):
            found[test] = predict(examples.where(fit), examples.where(test), SEEDS[0])
        rows.append([name, *score(found, examples.tokens)])
    columns = ("predictor", "MAE tokens", "Acc-50", "Acc-100", "tau")
    report.table(f"Alpaca, {FOLDS}-fold cross-validation by prompt over all 10,000", columns, rows)


def measure_mix(report: common.Report, plan: Plan) -> None:
    from benchmarks import length_baselines as usual
    from benchmarks.length_data import mix

    examples, tested = mix()
    learnt, asked = fewer(examples.where(~tested), plan), examples.where(tested)
    every: dict[str, Predict] = {
        "constant": usual.constant,
        "length only, forest": usual.length_only,
        "Magnus forest, folded words": usual.magnus_forest,
        "TF-IDF + boosting": usual.boosting,
        "TF-IDF + boosting, told application": usual.boosting_with_id,
        "forebay fast, not told application": untold(of_family("fast")),
        "forebay fast": of_family("fast"),
    }
    rows = [rows_of(name, one, learnt, asked, seeds_of(name, plan)) for name, one in every.items()]
    title = f"Six kinds of applications in eight: {len(learnt)} to learn from, {len(asked)} asked"
    report.table(title, ("predictor", *POINTS), rows)
    report.figures["mix_boosting_mae_tokens"] = float(rows[3][1])
    report.figures["mix_fast_mae_tokens"] = float(rows[-1][1])


def untold(predict: Predict) -> Predict:
    """The same without the names of application and model."""

    def blank(some: Examples) -> Examples:
        return replace(some, queries=tuple(replace(query, application="", model="m") for query in some.queries))

    return lambda learnt, asked, seed: predict(blank(learnt), blank(asked), seed)


# What training has not seen


def measure_new(report: common.Report, plan: Plan) -> None:
    from benchmarks.length_data import chats, mix

    for title, key, (examples, tested) in (("application", "application", mix()), ("model", "model", chats())):
        labels = np.array([getattr(query, key) for query in examples.queries])
        names = sorted(set(labels.tolist()))
        chosen = names[:: max(1, len(names) // (2 if plan.quick else 8))]
        rows: list[list[common.Cell]] = []
        for name in chosen:
            rows += _new(name, fewer(examples.where((labels != name) & ~tested), plan), examples.where(labels == name))
        means = {
            who: np.array([row[2:] for row in rows if row[1] == who], dtype=np.float64).mean(axis=0)
            for who in ("forebay fast", "histogram")
        }
        rows += [["mean", who, *values.tolist()] for who, values in means.items()]
        columns = (title, "predictor", *(f"MAE after {count}" for count in OUTCOME_COUNTS))
        report.table(f"Leave one {title} out: MAE in tokens after so many of its own outcomes", columns, rows)
        for who, values in means.items():
            for count, value in zip(OUTCOME_COUNTS, values.tolist(), strict=True):
                report.figures[f"new_{title}_{who.split()[-1]}_after_{count}_mae_tokens"] = value


def _new(name: str, learnt: Examples, new: Examples) -> list[list[common.Cell]]:
    order = np.random.default_rng(SEEDS[0]).permutation(len(new))
    own, asked = order[: max(OUTCOME_COUNTS)], order[max(OUTCOME_COUNTS) :][:ASKED_COUNT]
    known = np.random.default_rng(SEEDS[0]).permutation(len(learnt))[:2_000]
    rows: list[list[common.Cell]] = []
    for who, policy in (("forebay fast", trained("fast", learnt, SEEDS[0])), ("histogram", Histogram())):
        policy.observe([LengthOutcome(learnt.queries[place], int(learnt.tokens[place])) for place in known])
        maes: list[common.Cell] = []
        for start, end in zip((0, *OUTCOME_COUNTS[:-1]), OUTCOME_COUNTS, strict=True):
            policy.observe([LengthOutcome(new.queries[place], int(new.tokens[place])) for place in own[start:end]])
            found = medians(policy, [new.queries[place] for place in asked])
            maes.append(float(np.abs(found - new.tokens[asked]).mean()))
        rows.append([name, who, *maes])
    return rows


# Bounds


def engine_with(policy: LengthPredictor) -> PredictorEngine:
    """The predictor's engine as it runs, with this model answering."""
    from forebay.predictor.engine import Loaded

    engine = build_engine(Config(provider="cpu"))
    loaded = Loaded(PredictorModel("onnx_quantile", ModelKind.LENGTH, "1"), policy)
    engine.on_loaded(loaded)
    engine.on_activate(ModelKind.LENGTH, loaded.label)
    return engine


def follow(engine: PredictorEngine, examples: Examples) -> list[LengthPrediction]:
    """Predicts the examples in order; each slice teaches the engine before the next one."""
    found: list[LengthPrediction] = []
    for start in range(0, len(examples), SLICE_COUNT):
        queries = examples.queries[start : start + SLICE_COUNT]
        answering = engine.on_queries(queries)
        while not answering.step():
            pass
        found += answering.predictions
        pairs = zip(queries, examples.tokens[start:], answering.predictions, strict=False)
        outcomes = [LengthOutcome(query, int(tokens), predicted=one.quantiles) for query, tokens, one in pairs]
        learning = engine.on_outcomes(f"o{start}", outcomes, start)
        while not learning.step():
            pass
    return found


def bound_row(predictions: Sequence[LengthPrediction], tokens: np.ndarray) -> list[float]:
    """Coverage, reserve ratio, that in hindsight, coverage by thirds of predicted and true length, share by model."""
    bounds = np.array([one.quantiles.p90 for one in predictions], dtype=np.float64)[WARM_COUNT:]
    middles = np.array([one.quantiles.p50 for one in predictions], dtype=np.float64)[WARM_COUNT:]
    by = np.array([one.predicted_by.startswith("onnx") for one in predictions])[WARM_COUNT:]
    actual = tokens[WARM_COUNT:]
    covered = actual <= bounds
    thirds = [
        float(covered[part].mean())
        for by_length in (middles, actual)
        for part in np.array_split(np.argsort(by_length, kind="stable"), 3)
    ]
    ratios = [float(some.sum() / actual.sum()) for some in (bounds, hindsight(middles, actual))]
    return [float(covered.mean()), *ratios, *thirds, float(by.mean())]


def hindsight(middles: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """What a tenth by predicted median needs beyond it so that 90 % of its answers are covered, known afterwards."""
    found = middles.copy()
    for part in np.array_split(np.argsort(middles, kind="stable"), 10):
        found[part] += max(0.0, float(np.quantile(actual[part] - middles[part], 0.9)))
    return found


def measure_bounds(report: common.Report, plan: Plan) -> None:
    from benchmarks.length_data import alpaca, reordered

    examples, samples, tested = alpaca()
    learnt, asked = fewer(examples.where(~tested), plan), examples.where(tested)
    grown = np.arange(len(asked)) >= len(asked) // 2
    drifting = replace(asked, tokens=np.where(grown, asked.tokens, samples[tested, 0]))
    found: dict[str, list[list[float]]] = {"as trained": [], "one answer, then the longest of 4": []}
    for seed in plan.seeds:
        order = np.random.default_rng(seed).permutation(len(asked))
        policy_of = family_once(learnt, seed)
        for name, stream in zip(found, (asked, drifting), strict=True):
            shuffled = reordered(stream, order if stream is asked else np.sort(order))
            found[name].append(bound_row(follow(engine_with(policy_of()), shuffled), shuffled.tokens))
    rows: list[list[common.Cell]] = []
    for name, values in found.items():
        rows.append([name, *np.mean(values, axis=0).tolist(), len(values)])
    third = [f"{kind} {part}" for kind in ("predicted", "true") for part in ("short", "middle", "long")]
    columns = ("stream", "covered", "reserve ratio", "in hindsight", *third, "by the model", "seeds")
    report.table("90 % bound of the fast family on Alpaca, through the predictor's engine", columns, rows)
    for name, row in zip(("steady", "drifted"), rows, strict=True):
        report.figures[f"bound_{name}_coverage"], report.figures[f"bound_{name}_reserve_ratio"] = map(float, row[1:3])


def family_once(learnt: Examples, seed: int) -> Callable[[], LengthPredictor]:
    """Trains once; each call opens the model anew, with nothing learnt from outcomes."""
    made = family("fast").run(learnt, seed, lambda step: None)
    metadata = {key: value if isinstance(value, str) else str(value) for key, value in made.metadata.items()}
    model = PredictorModel(metadata["name"], ModelKind.LENGTH, "1", metadata=metadata)
    return lambda: opener(Config(provider="cpu"))(model, made.content).policy


# The shipped model


def measure_shipped(report: common.Report, plan: Plan) -> None:
    """The shipped model and rules that learn, each behind an engine of its own, from a cold start."""
    from benchmarks.length_data import streams

    rows: list[list[common.Cell]] = []
    for title, stream in streams(400 if plan.quick else 2_000):
        base = float(np.abs(stream.tokens - np.median(stream.tokens)).mean())
        policies: dict[str, LengthPredictor] = {
            "input ratio": InputRatio(),
            "histogram": Histogram(),
            "shipped": shipped(),
        }
        for name, policy in policies.items():
            found = follow(engine_with(policy), stream)
            late = slice(len(found) // 5, None)
            points = np.array([one.quantiles.p50 for one in found], dtype=np.float64)[late]
            mae, _, _, tau = score(points, stream.tokens[late])
            covered, ratio = bound_row(found, stream.tokens)[:2]
            rows.append([title, len(stream), name, mae, mae / base, tau, covered, ratio])
        word = "".join(filter(str.isalnum, title.split(",")[0])).lower()
        report.figures[f"shipped_{word}_mae_tokens"] = float(rows[-1][3])
        report.figures[f"shipped_{word}_coverage"] = float(rows[-1][6])
    columns = ("prompts", "answers", "predictor", "MAE tokens", "x best constant", "tau", "covered", "reserve ratio")
    report.table("Predict, then learn, through the engine; the first fifth is left out of MAE and tau", columns, rows)


def shipped() -> LengthPredictor:
    store = FolderModelStore()
    (model,) = (model for model in store.list() if model.name == "onnx_quantile")
    return opener(Config(provider="cpu"))(model, store.read(model)).policy


PARTS: dict[str, Callable[[common.Report, Plan], None]] = {
    "alpaca": measure_alpaca,
    "mix": measure_mix,
    "new": measure_new,
    "bounds": measure_bounds,
    "shipped": measure_shipped,
}


@click.command()
@common.options
@click.option("--only", type=click.Choice(list(PARTS)), help="One part alone.")
@click.option("--seeds", "seed_count", type=click.IntRange(1, len(SEEDS)), default=len(SEEDS), show_default=True)
@click.option("--family", "chosen", multiple=True, type=click.Choice(FAMILIES), help="These families alone, on Alpaca.")
def main(quick: bool, json_path: str | None, only: str | None, seed_count: int, chosen: Sequence[str]) -> None:
    """Scores predictions of lengths."""
    try:
        from benchmarks.length_data import ALPACA
    except ImportError as error:
        print(f"length_accuracy: needs {error.name}, which is not here; run: make dev")
        return
    if not ALPACA.is_file():
        print(f"length_accuracy: no {ALPACA}; point FOREBAY_DATA at the data. Nothing is measured.")
        return
    report = common.Report("length_accuracy", quick)
    plan = Plan(quick, SEEDS[: 1 if quick else seed_count], chosen or (("fast",) if quick else FAMILIES))
    for name, measure in PARTS.items():
        if only in (None, name):
            measure(report, plan)
    report.close(json_path)


if __name__ == "__main__":
    main()
