"""Schemathesis hooks: an additional check, and exclusions of requests that the tests must not send."""

import re

import schemathesis

# Pattern of an Idempotency-Key in the OpenAPI documents.
DOCUMENTED_KEY = re.compile("[!-~]([ -~]*[!-~])?")
# Id of the public key that the other requests use, so it must not be deleted.
PUBLIC_KEY_ID = 1


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.label != "DELETE /api/dsn-keys/{id}":
        return
    if str(case.path_parameters.get("id")) == str(PUBLIC_KEY_ID):
        case.path_parameters["id"] = PUBLIC_KEY_ID + 1


@schemathesis.hook
def filter_headers(context, headers):
    """Excludes idempotency keys that the services accept although they do not match the documented pattern.

    The services trim whitespace around a key and accept any UTF-8.
    """
    for name, value in (headers or {}).items():
        if name.lower() == "idempotency-key" and isinstance(value, str):
            try:
                key = value.strip(" \t").encode("latin-1").decode("utf-8")
            except UnicodeError:
                continue
            if 1 <= len(key) <= 64 and not DOCUMENTED_KEY.fullmatch(value):
                return False
    return True


@schemathesis.check
def response_members_are_documented(ctx, response, case):
    """Fails if a response has a member that its schema does not list.

    The schemas allow additional members, because later versions may add some, so Schemathesis does not check this.
    """
    document = case.operation.schema.raw_schema
    responses = document["paths"][case.operation.path][case.operation.method.lower()]["responses"]
    documented = responses.get(str(response.status_code))
    if documented is None or not response.headers.get("content-type", [""])[0].startswith("application/json"):
        return
    media = resolve(document, documented).get("content", {}).get("application/json")
    if media is not None:
        undocumented = sorted(undocumented_members(document, media["schema"], response.json(), "$"))
        assert not undocumented, f"undocumented members: {', '.join(undocumented)}"


def resolve(document, node):
    """Follows references until the node is not a reference."""
    while "$ref" in node:
        target = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def subschemas(document, schema):
    """Yields a schema and all schemas of its allOf, oneOf and anyOf, recursively."""
    schema = resolve(document, schema)
    yield schema
    for subschema in schema.get("allOf", []) + schema.get("oneOf", []) + schema.get("anyOf", []):
        yield from subschemas(document, subschema)


def undocumented_members(document, schema, value, path):
    """Yields the path of each member of a value that its schema does not list."""
    schemas = list(subschemas(document, schema))
    if isinstance(value, list):
        item_schemas = [schema["items"] for schema in schemas if "items" in schema]
        for item in value:
            for item_schema in item_schemas:
                yield from undocumented_members(document, item_schema, item, f"{path}[]")
    if isinstance(value, dict):
        properties = {name: member for schema in schemas for name, member in schema.get("properties", {}).items()}
        allows_others = any(schema.get("additionalProperties") for schema in schemas)
        for name, member in value.items():
            if name in properties:
                yield from undocumented_members(document, properties[name], member, f"{path}.{name}")
            elif not allows_others:
                yield f"{path}.{name}"
