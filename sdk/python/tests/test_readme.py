"""Every example of the README runs as it is written, against the real services."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services import KEY, TESTS, Collector, Tracker, run_script, wait_until

EXAMPLES = re.findall(r"```python\n(.*?)```", (TESTS.parent / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def examples(tracker: Tracker, collector: Collector) -> list[str]:
    urls = {"http://localhost:5010": tracker.url, "http://localhost:5012": collector.url, '"KEY"': repr(KEY)}
    return [re.sub("|".join(urls), lambda found: urls[found.group()], example) for example in EXAMPLES]


def test_every_example_runs(examples: list[str], tracker: Tracker, collector: Collector, tmp_path: Path) -> None:
    for example in examples:
        if "MIDDLEWARE" in example:
            (tmp_path / "readme_settings.py").write_text(example + "SECRET_KEY = 'of the tests'\n")
        script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{example}"
        ended = run_script(script, DJANGO_SETTINGS_MODULE="readme_settings")
        expected = "the first report" if "raise" in example else ""
        assert expected in ended.stderr
        assert ended.returncode == (1 if expected else 0), ended.stderr
    messages = {"the first report", "'cart'", "cart 7 is empty"}
    wait_until(lambda: {group["message"] for group in tracker.groups()} == messages, "every report")
    measured = {metric["name"] for metric in collector.get("/api/metrics/names")["metrics"]}
    assert measured == {"orders_total", "order_ms", "queue_depth", "import_seconds", "checkout_seconds"}
    staging = tracker.groups(environment="staging", release="1.4.2")
    assert [group["message"] for group in staging] == ["'cart'"]
