"""
Sends one message with nothing but requests, and waits until it is known what became of it.

    MAILPROXY_URL=http://127.0.0.1:8000 MAILPROXY_TOKEN=... \
        python send_with_requests.py ORDER SENDER RECIPIENT

The id is the order's: run again, for the same order, this sends nothing twice.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import requests

URL = os.environ.get("MAILPROXY_URL", "http://127.0.0.1:8000")
FINAL = ("sent", "failed", "expired", "cancelled")

session = requests.Session()
session.trust_env = False  # the service is ours: no proxy stands before it
session.headers["X-API-Token"] = os.environ["MAILPROXY_TOKEN"]


def hand_in(message: dict[str, Any]) -> None:
    """Post until there is an answer: with the same id that is safe."""
    for delay in (1, 2, 4, 8, None):
        try:
            answer = session.post(
                f"{URL}/commands/add-messages", json={"messages": [message]}, timeout=(5, 60)
            )
        except requests.ConnectionError:
            if delay is None:
                raise
        else:
            if answer.status_code != 503 or delay is None:
                break
            delay = int(answer.headers.get("Retry-After", delay))
        time.sleep(delay)
    told = answer.json()
    if not answer.ok or told["rejected"]:
        reasons = [each["reason"] for each in told.get("rejected", ())]
        raise SystemExit(f"refused: {reasons or told['error']}")


def wait_for(id: str, seconds: float = 60.0) -> dict[str, Any]:
    """Look until the message has ended. An application would be called instead: see reports."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = session.get(f"{URL}/v1/messages/{id}", timeout=10)
        answer.raise_for_status()
        message: dict[str, Any] = answer.json()["message"]
        if message["state"] in FINAL:
            return message
        time.sleep(0.2)
    raise SystemExit(f"still {message['state']}: {message['deferred_reason']}")


def main(order: str, sender: str, recipient: str) -> None:
    id = f"order-{order}"
    hand_in(
        {
            "id": id,
            "from": sender,
            "to": [recipient],
            "subject": f"Your order {order}",
            "body": "Thank you. It is on its way.\n",
        }
    )
    message = wait_for(id)
    print(f"{id}: {message['state']}")
    for each in message["recipients"]:
        print(f"  {each['address']}: {each['state']} ({each['code']} {each['reply']})")


if __name__ == "__main__":
    main(*sys.argv[1:4])
