"""The description of the API: valid, whole, and as the endpoints are."""

from __future__ import annotations

import random
import re
from typing import Annotated, Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.answers import Answer
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc, Param
from mailproxy.api.openapi import document
from tests.api.described import check_document, judge, resolved
from tests.api.door import Door


async def nothing(call: Call) -> Answer:
    raise AssertionError("never called")


def route(method: str = "GET", path: str = "/x", needs: Need = Need.READ, **doc: Any) -> Route:
    return Route(method, path, nothing, needs, Doc(**doc))


def operation(one: Route) -> dict[str, Any]:
    """The description of a route that is alone."""
    ((_, verbs),) = document([one], "1")["paths"].items()
    ((_, written),) = verbs.items()
    assert isinstance(written, dict)
    return written


class Inner(msgspec.Struct):
    """Something within."""

    name: str
    size: int = 0


class Outer(msgspec.Struct):
    """Something."""

    inner: Inner
    kind: str = "plain"
    note: str | msgspec.UnsetType = msgspec.UNSET


class WholeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.routes = self.door.api.routes
        self.document = self.door.call("GET", "/openapi.json", token=None).json

    def test_valid(self) -> None:
        """What is served is a valid description in OpenAPI 3.1."""
        check_document(self.document)
        self.assertEqual("3.1.0", self.document["openapi"])

    def test_every_route(self) -> None:
        """It has every endpoint there is, and none that is not there."""
        there = {(each.method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", each.path))
                 for each in self.routes}  # fmt: skip
        told = {(verb, path) for path, verbs in self.document["paths"].items() for verb in verbs}
        self.assertEqual(there, told)
        self.assertEqual(len(self.routes), len(there))

    def test_nobody_is_silent(self) -> None:
        """Every endpoint says in a sentence what it does."""
        for each in self.routes:
            self.assertRegex(each.doc.about, r"^[A-Z`].*\.$", each.path)

    def test_names(self) -> None:
        """Every operation has a name of its own."""
        operations = [op for verbs in self.document["paths"].values() for op in verbs.values()]
        self.assertEqual(len(operations), len({each["operationId"] for each in operations}))

    def test_names_of_types(self) -> None:
        """Every type has a name of its own: what two types share would be told by their modules."""
        for name in self.document["components"]["schemas"]:
            self.assertRegex(name, r"^[A-Z][A-Za-z]+$")

    def test_who_may(self) -> None:
        """An operation asks for a token unless it is open, and then tells of 401."""
        for each in self.routes:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", each.path)
            told = self.document["paths"][path][each.method.lower()]
            if each.needs is Need.OPEN:
                self.assertIn({}, [*told["security"], *([] if told["security"] else [{}])], path)
            else:
                self.assertEqual([{"token": []}, {"bearer": []}], told["security"], path)
                self.assertIn("401", told["responses"], path)
            admin = "Needs the admin token." in told["description"]
            self.assertEqual(each.needs is Need.ADMIN, admin, path)

    def test_the_same_each_time(self) -> None:
        """The same endpoints, in whatever order, give the same bytes."""
        shuffled = list(self.routes)
        random.Random(3).shuffle(shuffled)
        encode = msgspec.json.encode
        self.assertEqual(encode(document(shuffled, "1")), encode(document(self.routes, "1")))
        self.assertEqual(
            self.door.call("GET", "/openapi.json").body, Door().call("GET", "/openapi.json").body
        )

    def test_examples(self) -> None:
        """Every example of a request fits its own description."""
        found = 0
        for verbs in self.document["paths"].values():
            for each in verbs.values():
                for content in each.get("requestBody", {}).get("content", {}).values():
                    if "example" in content:
                        schema = resolved(self.document, content["schema"])
                        judge(schema).validate(content["example"])
                        found += 1
        self.assertGreaterEqual(found, 2)


class OperationTests(SynchronousTestCase):
    def test_taken_and_given(self) -> None:
        """A default makes a field optional in a request, and is always there in an answer."""
        told = document([route("POST", takes=Outer, gives=Outer)], "1")
        check_document(told)
        schemas = told["components"]["schemas"]
        self.assertEqual(["inner", "kind"], schemas["Outer"]["required"])
        self.assertEqual(["name", "size"], schemas["Inner"]["required"])
        self.assertEqual(["inner"], schemas["OuterGiven"]["required"])
        self.assertEqual(["name"], schemas["InnerGiven"]["required"])
        self.assertEqual(
            {"$ref": "#/components/schemas/InnerGiven"},
            schemas["OuterGiven"]["properties"]["inner"],
        )

    def test_variables(self) -> None:
        """What stands in the path is a parameter that has to be there, and may not be found."""
        told = operation(route("DELETE", "/thing/<path:id>/<name>", Need.ADMIN))
        self.assertEqual(
            [("id", "path", True), ("name", "path", True)],
            [(each["name"], each["in"], each["required"]) for each in told["parameters"]],
        )
        self.assertIn("404", told["responses"])

    def test_tenant(self) -> None:
        """The tenant can be named wherever a tenant's key will do."""
        for needs in Need:
            told = operation(route(needs=needs))
            names = [each.get("$ref", "") for each in told.get("parameters", [])]
            expected = needs not in (Need.OPEN, Need.ADMIN)
            self.assertEqual(expected, "#/components/parameters/tenant_id" in names, needs)
        told = operation(route(query=(Param("tenant_id", str, "Mine."),)))
        self.assertEqual(["Mine."], [each["description"] for each in told["parameters"]])

    def test_bodies(self) -> None:
        """A body may be left out, may be anything but JSON, and is then called what it is."""
        told = operation(route("POST", takes=Outer, bodiless=True))
        self.assertIs(False, told["requestBody"]["required"])
        self.assertIn("413", told["responses"])
        told = operation(route("POST", takes=bytes, takes_type="message/rfc822"))
        self.assertEqual({"message/rfc822": {}}, told["requestBody"]["content"])
        told = operation(route(gives=str, gives_type="text/plain"))
        self.assertEqual(
            {"text/plain": {"schema": {"type": "string"}}}, told["responses"]["200"]["content"]
        )

    def test_own_refusals(self) -> None:
        """An endpoint's own refusals stand beside the usual ones."""
        told = operation(route("POST", takes=Outer, refuses={400: Inner, 409: None, 418: Inner}))
        schema = told["responses"]["400"]["content"]["application/json"]["schema"]
        self.assertEqual(2, len(schema["anyOf"]))
        self.assertEqual("Conflict.", told["responses"]["409"]["description"])
        schema = told["responses"]["418"]["content"]["application/json"]["schema"]
        self.assertEqual({"$ref": "#/components/schemas/Inner"}, schema)

    def test_parameters(self) -> None:
        """The parameters in the query and in the header are described by their types."""
        limit = Param("limit", Annotated[int, msgspec.Meta(ge=1)], "How many.")
        told = operation(route(query=(limit,), headers=(Param("If-Match", required=True),)))
        self.assertEqual(
            [
                {"name": "limit", "in": "query", "required": False, "description": "How many.",
                 "schema": {"type": "integer", "minimum": 1}},
                {"name": "If-Match", "in": "header", "required": True,
                 "schema": {"type": "string"}},
            ],
            told["parameters"][1:],
        )  # fmt: skip
