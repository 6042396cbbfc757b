"""`MonlightHandler`: what an application logs becomes reports, and nothing of what this package logs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from monlight import ErrorClient, MonlightHandler, _guard
from services import KEY, Tracker


@pytest.fixture
def errors(tracker: Tracker) -> ErrorClient:
    return ErrorClient(tracker.url, KEY, project="shop")


@pytest.fixture
def logger(errors: ErrorClient) -> Iterator[logging.Logger]:
    handler = MonlightHandler(errors)
    root = logging.getLogger()
    root.addHandler(handler)
    yield logging.getLogger("shop.cart")
    root.removeHandler(handler)


def test_a_record_with_an_exception_is_that_exception(
    logger: logging.Logger, errors: ErrorClient, tracker: Tracker
) -> None:
    try:
        os.environ["NO_CART"]
    except KeyError:
        logger.exception("cart %s is gone", 7, extra={"cart": 7, "api_key": "s3cret"})
    assert errors.flush()
    report = tracker.only_report()
    assert (report["exception_type"], report["level"], report["project"]) == ("KeyError", "error", "shop")
    assert report["occurrences"][0]["extra"] == {
        "cart": 7,
        "api_key": "[removed]",
        "logger": "shop.cart",
        "log_message": "cart 7 is gone",
    }


def test_other_records_are_grouped_by_their_line(logger: logging.Logger, errors: ErrorClient, tracker: Tracker) -> None:
    for cart in range(3):
        logger.error("cart %d is empty", cart)
    logger.critical("no carts left", stack_info=True)
    logger.warning("not worth a report")
    assert errors.flush()
    groups = {group["message"]: group for group in tracker.details()}
    empty = groups["cart 0 is empty"]
    assert (empty["exception_type"], empty["count"], empty["level"]) == ("shop.cart", 3, "error")
    assert "test_logging.py:" in empty["location"]
    assert groups["no carts left"]["level"] == "critical"
    assert "test_other_records_are_grouped_by_their_line" in groups["no carts left"]["traceback"]
    assert len(groups) == 2


def test_nothing_of_its_own_is_reported(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    tracker.kill()
    errors = ErrorClient(tracker.url, KEY, timeout=0.5)
    handler = MonlightHandler(errors, logging.DEBUG)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        root.info("one")
        with _guard.sending():
            logging.getLogger("a.library.that.sends").error("what a report causes is no report")
        assert not errors.flush(0.7)
        assert "Monlight will try /api/errors again" in caplog.text
        assert caplog.text.count("Monlight") == 1, "the same sentence is not repeated at once"
        tracker.start()
        assert errors.flush()
    finally:
        root.setLevel(logging.WARNING)
        root.removeHandler(handler)
    assert [(group["message"], group["count"]) for group in tracker.groups()] == [("one", 1)]


def test_a_record_that_cannot_be_formatted_harms_nobody(
    logger: logging.Logger, errors: ErrorClient, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    root = logging.getLogger()
    theirs = [handler for handler in root.handlers if not isinstance(handler, MonlightHandler)]
    for handler in theirs:
        root.removeHandler(handler)
    try:
        logger.error("%d carts", "no number")
    finally:
        for handler in theirs:
            root.addHandler(handler)
    assert errors.flush()
    assert tracker.groups() == []
