"""The page of all config keys is what the settings say."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_page_of_config_keys_is_what_its_script_writes() -> None:
    """After a change of the settings: python docs/config_reference.py"""
    page = runpy.run_path(str(DOCS / "config_reference.py"))["page"]()
    assert (DOCS / "config.md").read_text(encoding="utf-8") == page
    assert "| `api_base` | null |" in page
