"""A setting that nothing reads promises something that nobody keeps."""

from syncengine import Settings
from tests.tidy.tree import ROOT


def test_every_setting_is_read_somewhere() -> None:
    names = [name for name in vars(Settings) if not name.startswith("_")]
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "syncengine").rglob("*.py") if path.name != "settings.py"
    )
    assert [name for name in names if f"settings.{name}" not in code] == []
