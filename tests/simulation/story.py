"""What the world outside knows of one message."""

from __future__ import annotations

import attrs


@attrs.define
class Story:
    """
    What is known of one id.

    :param versions: recipients, by the version of the content.
    :param promised: whether it was accepted, and not taken back since.
    :param unknown: whether the last call about it had no answer.
    :param muddled: whether any ever had none.
    :param taken_back: spans of time within which no attempt may begin.
    :param newest: a version, and since when no older one may begin.
    :param letters: what was handed in by SMTP, by version; empty if it came by REST.
    :param of: the name of the story that the text says, where the id is of the service's making.
    """

    id: str
    versions: list[list[str]] = attrs.Factory(list)
    promised: bool = False
    unknown: bool = False
    muddled: bool = False
    taken_back: list[list[float]] = attrs.Factory(list)
    newest: list[tuple[float, int]] = attrs.Factory(list)
    closed: bool = False
    letters: list[bytes] = attrs.Factory(list)
    of: str = ""
