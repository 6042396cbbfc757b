"""Validator of OpenAPI documents and their examples.

Reads a document from standard input. Prints the number of examples if the document is valid OpenAPI and every example
matches its schema; otherwise exits with an error.
"""

import json
import sys

import openapi_spec_validator
from openapi_schema_validator import OAS31Validator


def find_examples(node, path=""):
    """Yields the path, schema and value of each example below a node."""
    if isinstance(node, dict):
        if "schema" in node:
            examples = [example["value"] for example in node.get("examples", {}).values()]
            examples += [node["example"]] if "example" in node else []
            yield from ((f"{path}: {index}", node["schema"], example) for index, example in enumerate(examples))
        for name, child in node.items():
            yield from find_examples(child, f"{path}/{name}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from find_examples(child, f"{path}/{index}")


def main():
    document = json.load(sys.stdin)
    openapi_spec_validator.validate(document)
    count = 0
    for path, schema, example in find_examples(document):
        # References in the schema are relative to the document.
        schema_with_components = {**schema, "components": document["components"]}
        validator = OAS31Validator(schema_with_components, format_checker=OAS31Validator.FORMAT_CHECKER)
        for error in validator.iter_errors(example):
            sys.exit(f"{path}: example does not match its schema: {error.message}")
        count += 1
    print(count)


main()
