"""What Schemathesis does not look at by itself, and what it must leave alone."""

import re

import schemathesis

# What the documents ask an Idempotency-Key to be, which is what everybody sends.
PLAIN = re.compile("[!-~]([ -~]*[!-~])?")
# The public key that pages report with, which must not be taken out of use while they do.
KEY_IN_USE = 1


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.label == "DELETE /api/dsn-keys/{id}" and str(case.path_parameters.get("id")) == str(KEY_IN_USE):
        case.path_parameters["id"] = KEY_IN_USE + 1


@schemathesis.hook
def filter_headers(context, headers):
    """Leaves out keys that are taken although they are not plain: blanks around them go, and any UTF-8 is fine."""
    for name, value in (headers or {}).items():
        if name.lower() == "idempotency-key" and isinstance(value, str):
            try:
                text = value.strip(" \t").encode("latin-1").decode("utf-8")
            except UnicodeError:
                continue
            if 1 <= len(text) <= 64 and not PLAIN.fullmatch(value):
                return False
    return True


@schemathesis.check
def every_member_is_described(ctx, response, case):
    """Answers may get new members in later versions, but this version's document has all of this version's."""
    document = case.operation.schema.raw_schema
    responses = document["paths"][case.operation.path][case.operation.method.lower()]["responses"]
    described = responses.get(str(response.status_code))
    if described is None or not response.headers.get("content-type", [""])[0].startswith("application/json"):
        return
    media = resolve(document, described).get("content", {}).get("application/json")
    if media is not None:
        unknown = sorted(undescribed(document, media["schema"], response.json(), "$"))
        assert not unknown, f"not described: {', '.join(unknown)}"


def resolve(document, value):
    while "$ref" in value:
        found = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def branches(document, schema):
    """A schema and all that it is made of, as far as it is about the same value."""
    schema = resolve(document, schema)
    yield schema
    for part in schema.get("allOf", []) + schema.get("oneOf", []) + schema.get("anyOf", []):
        yield from branches(document, part)


def undescribed(document, schema, value, at):
    parts = list(branches(document, schema))
    if isinstance(value, list):
        items = [part["items"] for part in parts if "items" in part]
        for item in value:
            for schema in items:
                yield from undescribed(document, schema, item, f"{at}[]")
    if isinstance(value, dict):
        described = {name: schema for part in parts for name, schema in part.get("properties", {}).items()}
        others = any(part.get("additionalProperties") for part in parts)
        for name, member in value.items():
            if name in described:
                yield from undescribed(document, described[name], member, f"{at}.{name}")
            elif not others:
                yield f"{at}.{name}"
