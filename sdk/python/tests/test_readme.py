"""Every code example in the README runs unchanged, except for URLs and key, against the real services."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services import KEY, TESTS, Collector, Tracker, run_script, wait_until

EXAMPLES = re.findall(r"```python\n(.*?)```", (TESTS.parent / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def examples(tracker: Tracker, collector: Collector) -> list[str]:
    urls = {"http://localhost:5010": tracker.url, "http://localhost:5012": collector.url, '"KEY"': repr(KEY)}
    return [re.sub("|".join(urls), lambda match: urls[match.group()], example) for example in EXAMPLES]


def test_readme_examples_run(examples: list[str], tracker: Tracker, collector: Collector, tmp_path: Path) -> None:
    for example in examples:
        if "MIDDLEWARE" in example:
            (tmp_path / "readme_settings.py").write_text(example + "SECRET_KEY = 'test'\n")
        script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{example}"
        result = run_script(script, DJANGO_SETTINGS_MODULE="readme_settings")
        expected_error = "the first report" if "raise" in example else ""
        assert expected_error in result.stderr
        assert result.returncode == (1 if expected_error else 0), result.stderr
    messages = {"the first report", "'cart'", "cart 7 is empty", "test", "few carts left", "'basket'", "declined"}
    messages |= {"no stock", "stock is low", "in the east"}
    wait_until(lambda: {group["message"] for group in tracker.groups()} == messages, "all reports")
    names = {metric["name"] for metric in collector.get("/api/metrics/names")["metrics"]}
    assert names == {"orders_total", "order_ms", "queue_depth", "import_seconds", "checkout_seconds"}
    staging = tracker.groups(environment="staging", release="1.4.2")
    assert [group["message"] for group in staging] == ["'cart'"]
