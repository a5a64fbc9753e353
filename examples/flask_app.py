"""
A Flask application that sends mail through a mailproxy, and is told what became of it.

    MAILPROXY_URL=http://127.0.0.1:8000 MAILPROXY_TOKEN=... REPORT_TOKEN=... \
        flask --app flask_app run

Reports come where the service was told to bring them: to ``/mail-proxy/sync`` below the tenant's
``client_base_url``, or to ``GMP_CLIENT_SYNC_URL``, with REPORT_TOKEN as their bearer token.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from flask import Flask, abort, request

from mailproxy.client import Client, Rejected, Unavailable, attachment

app = Flask(__name__)
app.config.from_mapping(
    MAILPROXY_URL=os.environ.get("MAILPROXY_URL", "http://127.0.0.1:8000"),
    MAILPROXY_TOKEN=os.environ.get("MAILPROXY_TOKEN"),
    REPORT_TOKEN=os.environ.get("REPORT_TOKEN", ""),
)

#: What is known of each order's mail; an application would keep this in its database.
outcomes: dict[str, dict[str, Any]] = {}


@app.post("/orders/<order>/confirmation")
def confirm(order: str) -> tuple[dict[str, Any], int]:
    """Send the confirmation of an order. The id is the order's: asked twice, it is sent once."""
    with Client(app.config["MAILPROXY_URL"], app.config["MAILPROXY_TOKEN"]) as client:
        try:
            item = client.send(
                "Shop <shop@example.com>",
                request.form["email"],
                f"Your order {order}",
                "Thank you. It is on its way.\n",
                html="<p>Thank you. It is on its way.</p>",
                id=f"order-{order}",
                attachments=[attachment("order.txt", f"Order {order}\n".encode(), "text/plain")],
            )
        except Rejected as error:
            return {"error": error.reason}, 422
        except Unavailable:
            return {"error": "mail cannot be sent now, please try again"}, 503
    return {"id": item.id, "state": item.state}, 202


@app.post("/mail-proxy/sync")
def report() -> dict[str, Any]:
    """Take a report. Events may come more than once: the newest state of each id is kept."""
    expected = f"Bearer {app.config['REPORT_TOKEN']}"
    if not hmac.compare_digest(
        request.headers.get("Authorization", "").encode(), expected.encode()
    ):
        abort(401)
    for item in request.get_json()["delivery_report"]:
        outcomes[item["id"]] = item
    return {"ok": True}


@app.get("/orders/<order>")
def show(order: str) -> dict[str, Any]:
    """What became of the confirmation, as far as it was told."""
    item = outcomes.get(f"order-{order}")
    if item is None:
        return {"state": "under way"}
    if item["sent_ts"]:
        return {"state": "sent"}
    return {"state": "failed" if item["error_ts"] else "deferred", "reason": item["error"]}
