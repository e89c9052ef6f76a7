"""Predicts, places and reports one request against a running stack (`forebay up`): python place.py MODEL PROMPT."""

import sys

from lmaas.scheduler.v1 import request_pb2

from lmaas_client import Client, ForebayError, new_request


def main(model: str, prompt: str) -> None:
    """Prints the predicted length, the chosen instance and why it was chosen."""
    request = new_request(model, prompt, prompt_tokens=max(1, len(prompt) // 4), tokens_max=256)
    with Client() as client:
        [prediction] = client.predict(request)
        print(f"predicted: {prediction.quantiles.p50_tokens} tokens (90 %: {prediction.quantiles.p90_tokens})")
        placement = client.place(request)
        print(f"placed on: {placement.instance_id} at {placement.grpc_address}")
        print(f"because:   {client.explain(placement.decision_id).reason}")
        # Here the request goes to the instance; its answer then ends the lease.
        client.finish(placement.lease_id, request_pb2.OUTCOME_STOPPED, generated_tokens=42)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2])
    except ForebayError as error:
        raise SystemExit(f"{error.reason or error.code.name}: {error}") from error
