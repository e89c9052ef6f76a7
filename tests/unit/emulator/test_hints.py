"""What a client's gateway tells of a request reaches the engine, and its batcher heeds it."""

from tritonclient.grpc import service_pb2

from forebay.core.instance import EngineProfile, EngineRequest, InstanceModel
from forebay.core.instance.batcher import BatchPlan, BatchView, make_batcher
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.units import PS_PER_US
from forebay.emulator.engine import EmulatedEngine
from forebay.emulator.generate import read_request
from forebay.emulator.tensors import text_bytes

PROFILE = EngineProfile(
    name="one millisecond an iteration",
    status="uncalibrated",
    iteration_ps=(0, *(1_000 * PS_PER_US for _ in range(64))),
    decode_ps=0,
    context_token_ps=0,
    prefill_ps=0,
    half_pair_fixed=0,
    prefill_token_fixed=0,
    kv_tokens=256,
    max_seqs=8,
)


class Seeing:
    """A batcher that notes what it is told."""

    def __init__(self) -> None:
        self.hints: list[Hints] = []

    def plan(self, view: BatchView) -> BatchPlan:
        self.hints += [one.hints for one in view.waiting]
        return make_batcher("chunked_prefill").plan(view)


def message(**parameters: int) -> service_pb2.ModelInferRequest:
    built = service_pb2.ModelInferRequest(model_name="m", id="7")
    built.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    built.raw_input_contents.append(text_bytes("Why?"))
    for name, value in parameters.items():
        built.parameters[name].int64_param = value
    return built


def test_hints_are_parameters_of_the_request() -> None:
    asked = message(forebay_predicted_tokens=40, forebay_tpot_slo_us=50_000, forebay_unknown=3)
    assert read_request(asked).hints == Hints(predicted_tokens=40, tpot_slo_us=50_000)
    assert read_request(message()).hints == NO_HINTS


def test_promises_are_those_of_the_clients_clock() -> None:
    seeing = Seeing()
    emulated = EmulatedEngine(InstanceModel(PROFILE, None, seeing), 20.0, 0, 0)
    emulated.on_request(EngineRequest("a", 10, 5, hints=Hints(9, 12, 1_000, 50, 3)), 0)
    assert seeing.hints == [Hints(9, 12, 20_000, 1_000, 3)]
