"""Says whether the document on its standard input is OpenAPI, and whether its examples are what its schemas say."""

import json
import sys

import openapi_spec_validator
from openapi_schema_validator import OAS31Validator


def examples(document, node, at=""):
    """Each example with the schema that stands beside it."""
    if isinstance(node, dict):
        if "schema" in node:
            given = [example["value"] for example in node.get("examples", {}).values()]
            given += [node["example"]] if "example" in node else []
            yield from ((f"{at}: {index}", node["schema"], example) for index, example in enumerate(given))
        for name, child in node.items():
            yield from examples(document, child, f"{at}/{name}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from examples(document, child, f"{at}/{index}")


def main():
    document = json.load(sys.stdin)
    openapi_spec_validator.validate(document)
    count = 0
    for at, schema, example in examples(document, document):
        # References are to the whole document.
        whole = {**schema, "components": document["components"]}
        for fault in OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).iter_errors(example):
            sys.exit(f"{at} is not what its schema says: {fault.message}")
        count += 1
    print(count)


main()
