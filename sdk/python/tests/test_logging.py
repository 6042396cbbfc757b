"""`MonlightHandler`: log records of the application become reports; log records of this package do not."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from monlight import ErrorClient, MonlightHandler, _safety
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


def test_record_with_exception_is_reported_as_that_exception(
    logger: logging.Logger, errors: ErrorClient, tracker: Tracker
) -> None:
    try:
        os.environ["NO_CART"]
    except KeyError:
        logger.exception("cart %s was not found", 7, extra={"cart": 7, "api_key": "s3cret"})
    assert errors.flush()
    report = tracker.only_report()
    assert (report["exception_type"], report["level"], report["project"]) == ("KeyError", "error", "shop")
    assert report["occurrences"][0]["extra"] == {
        "cart": 7,
        "api_key": "[removed]",
        "logger": "shop.cart",
        "log_message": "cart 7 was not found",
    }


def test_records_without_exception_are_grouped_by_source_line(
    logger: logging.Logger, errors: ErrorClient, tracker: Tracker
) -> None:
    for cart in range(3):
        logger.error("cart %d is empty", cart)
    logger.critical("no carts left", stack_info=True)
    logger.warning("below the level of the handler")
    assert errors.flush()
    groups = {group["message"]: group for group in tracker.details()}
    empty = groups["cart 0 is empty"]
    assert (empty["exception_type"], empty["count"], empty["level"]) == ("shop.cart", 3, "error")
    assert "test_logging.py:" in empty["location"]
    assert groups["no carts left"]["level"] == "critical"
    assert "test_records_without_exception_are_grouped_by_source_line" in groups["no carts left"]["traceback"]
    assert len(groups) == 2


def test_log_records_of_this_package_are_not_reported(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    tracker.kill()
    errors = ErrorClient(tracker.url, KEY, timeout=0.5)
    handler = MonlightHandler(errors, logging.DEBUG)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        root.info("one")
        with _safety.sending_request():
            logging.getLogger("httpx").error("logged while a report is sent")
        assert not errors.flush(0.7)
        assert caplog.text.count("sending to /api/errors failed") == 1, "identical warnings are logged once per minute"
        assert "will retry" in caplog.text
        tracker.start()
        assert errors.flush()
    finally:
        root.setLevel(logging.WARNING)
        root.removeHandler(handler)
    assert [(group["message"], group["count"]) for group in tracker.groups()] == [("one", 1)]


def test_record_whose_arguments_do_not_fit_is_reported(
    logger: logging.Logger, errors: ErrorClient, tracker: Tracker
) -> None:
    root = logging.getLogger()
    other_handlers = [handler for handler in root.handlers if not isinstance(handler, MonlightHandler)]
    for handler in other_handlers:
        root.removeHandler(handler)
    try:
        logger.error("%d carts", "A-16")
        try:
            os.environ["NO_CART"]
        except KeyError:
            logger.exception("order %d failed", "A-17")
    finally:
        for handler in other_handlers:
            root.addHandler(handler)
    assert errors.flush()
    reports = {report["message"]: report["occurrences"][0]["extra"] for report in tracker.details()}
    assert reports == {
        "%d carts": {"log_args": ["A-16"]},
        "'NO_CART'": {"log_args": ["A-17"], "logger": "shop.cart", "log_message": "order %d failed"},
    }


def test_record_that_cannot_be_reported_is_handled_like_by_other_handlers(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("str failed")

    logging.getLogger("unprintable").handlers = [
        handler for handler in logging.getLogger().handlers if isinstance(handler, MonlightHandler)
    ]
    logging.getLogger("unprintable").propagate = False
    logging.getLogger("unprintable").error(Unprintable())
    assert "--- Logging error ---" in capsys.readouterr().err


def test_record_that_reaches_two_handlers_is_reported_once(
    logger: logging.Logger, errors: ErrorClient, tracker: Tracker
) -> None:
    second_handler = MonlightHandler(ErrorClient(tracker.url, KEY, project="shop"))
    other_project = ErrorClient(tracker.url, KEY, project="other")
    for handler in (second_handler, MonlightHandler(other_project)):
        logger.addHandler(handler)
    try:
        logger.error("cart is empty")
    finally:
        logger.handlers.clear()
    for client in (errors, second_handler._errors, other_project):
        assert client.flush()
    assert {(group["project"], group["count"]) for group in tracker.groups()} == {("shop", 1), ("other", 1)}
