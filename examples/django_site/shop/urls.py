"""One page: it sends the confirmation of an order."""

from __future__ import annotations

from django.core.mail import EmailMultiAlternatives
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import path

from mailproxy.client import Rejected, Unavailable


def confirm(request: HttpRequest, order: str) -> HttpResponse:
    """Send the confirmation. The id is the order's: asked twice, it is sent once."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    message = EmailMultiAlternatives(
        f"Your order {order}",
        "Thank you. It is on its way.\n",
        to=[request.POST["email"]],
        bcc=["orders@example.com"],
        headers={"X-Mailproxy-Id": f"order-{order}", "X-Mailproxy-Priority": "high"},
    )
    message.attach_alternative("<p>Thank you. It is on its way.</p>", "text/html")
    try:
        message.send()
    except Rejected as error:
        return JsonResponse({"error": error.reason}, status=422)
    except Unavailable:
        return JsonResponse({"error": "mail cannot be sent now, please try again"}, status=503)
    return JsonResponse({"id": message.mailproxy_id}, status=202)


urlpatterns = [path("orders/<str:order>/confirmation", confirm)]
