"""The notebooks run as they are, on real local models, with a small budget."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PROMPTOPT_ROLLOUTS", "180")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(NOTEBOOKS.parent / "configs", tmp_path / "configs")  # a link's `..` would lead to the checkout
    ran = nbformat.read(notebook, as_version=4)
    client = NotebookClient(ran, timeout=1500, resources={"metadata": {"path": str(tmp_path / "notebooks")}})
    client.execute()
    assert list((tmp_path / "runs").rglob("result.json"))
    pictures = [out for cell in ran.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert pictures
