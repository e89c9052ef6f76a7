"""Waits until the gateway at GATEWAY has models, and prints where a person finds what."""

import json
import os
import sys
import time
import urllib.request

TIMEOUT_S = 300.0
POLL_S = 0.5
TEXT = """
Forebay is up: {models}

  page         {page}
  OpenAI API   {http}/v1

  curl {http}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{first}", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'
"""


def models(gateway: str) -> list[str]:
    """The models that the gateway knows; none while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{gateway}/v1/models", timeout=POLL_S * 4) as answer:
            return [one["id"] for one in json.load(answer)["data"]]
    except (OSError, ValueError, KeyError):
        return []


def url(ports: str) -> str:
    """Where this machine's browser finds what is published there; of a range, the first."""
    return f"http://127.0.0.1:{ports.partition('-')[0]}"


def main() -> int:
    """The exit status: 1 where no model came."""
    began_s = time.monotonic()
    while not (found := models(os.environ["GATEWAY"])):
        if time.monotonic() - began_s > TIMEOUT_S:
            print(f"no model is ready after {TIMEOUT_S:.0f} s; what do the services say? docker compose logs")
            return 1
        time.sleep(POLL_S)
    where = {"page": url(os.environ["PAGE_PORT"]), "http": url(os.environ["HTTP_PORTS"])}
    print(TEXT.format(models=", ".join(found), first=found[0], **where), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
