"""Wheel and source distribution: contents, and installation in an empty virtual environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

import monlight
from services import KEY, TESTS, Tracker

ROOT = TESTS.parent


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


def test_installed_wheel_sends_a_report(distributions: Path, tmp_path: Path, tracker: Tracker) -> None:
    (wheel,) = distributions.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    # Links the dependencies from this environment instead of installing them, so that the test needs no network.
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", str(wheel))
    names = ("httpx", "httpcore", "h11", "anyio", "certifi", "idna", "typing_extensions", "exceptiongroup")
    site = Path(next((tmp_path / "venv").glob("lib/*/site-packages")))
    for name in names:
        for path in Path(httpx.__file__).parents[1].glob(f"{name}*"):
            (site / path.name).symlink_to(path)
    script = (
        "import monlight\n"
        f"errors = monlight.ErrorClient({tracker.url!r}, {KEY!r})\n"
        "errors.capture_exception(ValueError('from a wheel'))\n"
        "print(monlight.__version__, monlight.__file__)"
    )
    version, file = run(python, "-I", "-c", script).split()
    assert version == monlight.__version__
    assert str(site) in file
    assert tracker.only_report()["message"] == "from a wheel"


def test_distributions_contain_only_the_package(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"monlight-{monlight.__version__}-py3-none-any.whl"
    assert "monlight/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"monlight", f"monlight-{monlight.__version__}.dist-info"}
    assert len([name for name in names if name.endswith(".py")]) == len(list((ROOT / "src").rglob("*.py")))
    metadata = zipfile.ZipFile(wheel).read(f"monlight-{monlight.__version__}.dist-info/METADATA").decode()
    requirements = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line]
    assert requirements == ["Requires-Dist: httpx>=0.25"]
    extras = {line.split()[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")}
    assert extras == {"django", "fastapi", "flask"}
    (source,) = distributions.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        top_level = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert top_level <= {"src", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
