"""
The web site: serves the package's endpoint page over HTTP, and gives its code what sites have.

Whatever a page raises is a 500; refused credentials are what the package makes of them.
"""

from __future__ import annotations

import hashlib
import io
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.peers.genropy.framework import (
    EMAIL,
    Bag,
    GnrBasicAuthenticationError,
    GnrUserNotAllowed,
    load,
)
from tests.peers.genropy.tables import Database

ENDPOINT = "/email/mailproxy/mp_endpoint"
SYNC = f"{ENDPOINT}/proxy_sync"
ATTACHMENTS = f"{ENDPOINT}/proxy_get_attachments"

#: What may stand between us and the page: given the page's answer, gives the one that is sent.
#: None: the connection is closed without an answer.
Fault = Callable[[Callable[[], Response]], Response | None]


class StorageNode:
    """A file of the site."""

    def __init__(self, fullpath: str, content: bytes | None) -> None:
        self.fullpath = fullpath
        self.basename = fullpath.rpartition("/")[2].rpartition(":")[2]
        self.exists = content is not None
        self._content = content or b""

    @property
    def md5hash(self) -> str:
        return hashlib.md5(self._content, usedforsecurity=False).hexdigest()

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._content)


class Avatar:
    def __init__(self, user_tags: str) -> None:
        self.user_tags = user_tags


class Application:
    """What a site knows of its instance: configuration, preferences, who may do what."""

    def __init__(self, site: Site, admin_token: str) -> None:
        self.site = site
        self.config = {"api_keys.private.genro_mail_proxy?token": admin_token}

    def getPreference(self, path: str, pkg: str = "", **_: Any) -> Any:
        return None

    def getAvatar(self, user: str, password: str, authenticate: bool = False) -> Avatar | None:
        found = self.site.db.table("adm.user").record(username=user, ignoreMissing=True)
        if found is None or found["md5pwd"] != password:
            return None
        links = self.site.db.table("adm.user_tag").query(where="$user_id = :u", u=found["id"])
        tags = self.site.db.table("adm.htag")
        return Avatar(",".join(tags.record(row["tag_id"])["code"] for row in links.fetch()))

    def checkResourcePermission(self, resource_tags: str, user_tags: str) -> bool:
        return resource_tags in user_tags.split(",")


class WebPage:
    """The framework's half of a page."""

    userTags = None

    def __init__(self, site: Site, request: Request) -> None:
        self.site = site
        self.db = site.db
        self.application = site.application
        self.request = request
        self.response = Response()

    def getService(self, service_type: str) -> Any:
        return self.site.getService(service_type)

    def exception(self, name: str, **given: Any) -> Exception:
        basic = name == "basic_authentication"
        return (GnrBasicAuthenticationError if basic else GnrUserNotAllowed)(**given)

    def getPublicMethod(self, prefix: str, name: str) -> Any:
        """
        The method *name*, if the caller may call it.

        :raises GnrException: it may not.
        """
        method = getattr(self, name, None)
        if method is None or not getattr(method, "is_rpc", False):
            return None
        verifier = load("gnr/web/verifiers.py").AuthorizationBaseTagsVerifier(self)
        refused = verifier(tags=method.tags)
        if refused is not None:
            raise refused
        return method


def _page_class() -> type[WebPage]:
    """The endpoint page, with the component it requires, upon ours."""
    page = load(f"{EMAIL}/webpages/mailproxy/mp_endpoint.py").GnrCustomWebPage
    path, _, component = page.py_requires.partition(":")
    required = getattr(load(f"gnr/resources/common/{path}.py"), component)
    return type("Page", (page, required, WebPage), {})


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


class Site:
    """
    A site with its database in *folder*, serving on a free port of the loopback.

    :param admin_token: of the mail proxy at *proxy_url*.
    :param batch_size: messages submitted in one sync call.

    :ivar faults: by path: what stands between the caller and the page.
    :ivar calls: paths called, in order; *overlaps*: sync calls begun while another was open.
    """

    currentPage = None

    def __init__(self, folder: Path, proxy_url: str, admin_token: str, batch_size: int) -> None:
        self.application = Application(self, admin_token)
        self.db = Database(folder / "site.db", self.application)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.calls: list[str] = []
        self.errors: list[str] = []
        self.overlaps = 0
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()
        self._page = _page_class()
        self._server = make_server(
            "127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet
        )
        parameters = Bag({"proxy_url": proxy_url, "batch_size": batch_size})
        names = {"service_type": "mailproxy", "service_name": "mailproxy"}
        self.db.table("sys.service").insert({**names, "parameters": parameters})
        self.db.commit()

    def start(self) -> Site:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.db.close()

    # What the package asks of a site.

    def externalUrl(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def storageNode(self, path: str) -> StorageNode:
        return StorageNode(path, self.files.get(path))

    def getService(self, service_type: str) -> Any:
        """The service as its record says; what it says now, not at the start."""
        record = self.db.table("sys.service").record(service_type=service_type)
        service = load(f"{EMAIL}/resources/services/mailproxy/mailproxy.py").Main(
            self, **record["parameters"]
        )
        service.service_type, service.service_name = service_type, record["service_name"]
        return service

    # HTTP.

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        with self._lock:
            self.calls.append(request.path)
            self._open[request.path] = self._open.get(request.path, 0) + 1
            self.overlaps += request.path == SYNC and self._open[SYNC] > 1
        try:
            fault = self.faults.get(request.path, lambda page: page())
            response = fault(lambda: self._answer(request))
        finally:
            with self._lock:
                self._open[request.path] -= 1
        if response is None:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            response = Response()
        body: Iterable[bytes] = response(environ, start_response)
        return body

    def _answer(self, request: Request) -> Response:
        """What the page says; its transaction ends with the request."""
        if not request.path.startswith(ENDPOINT + "/"):
            return Response("Not Found", 404)
        page: Any = self._page(self, request)
        try:
            said = page.rootPage(request.path.removeprefix(ENDPOINT + "/"), **request.args)
        except Exception as error:
            self.errors.append(repr(error))
            return Response("Internal Server Error", 500, mimetype="text/html")
        finally:
            self.db.close()
        page.response.set_data(said)
        return page.response  # type: ignore[no-any-return]
