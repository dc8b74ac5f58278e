"""What tells judges apart, and what is found out before anything is judged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eval.judges.make import judge_record, make_judge
from eval.judges.options import JudgeConfig
from eval.judges.progress import JudgingProgress
from features.errors import CheckpointError, ConfigError


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (None, "api.openai.com/v1"),
        ("https://api.openai.com/v1/", "api.openai.com/v1"),
        (
            "https://me:secret@host.example:8443/a/v1",
            "host.example:8443/a/v1",
        ),
        ("https://host.example:8443/b/v1//", "host.example:8443/b/v1"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
    ],
)
def test_an_endpoint_is_its_host_and_path(url: str | None, wanted: str) -> None:
    assert judge_record(JudgeConfig("endpoint", "m", url), "r").endpoint == wanted


def test_other_weights_in_the_same_folder_are_another_judge(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100_000))  # never loaded
    config = JudgeConfig("local", str(folder))
    first = judge_record(config, "r")
    name, _, digest = first.name.partition("@")
    assert (name, len(digest)) == ("tiny", 8)
    shutil.copytree(folder, tmp_path / "copy" / "tiny")
    assert judge_record(JudgeConfig("local", str(tmp_path / "copy" / "tiny")), "r") == first
    (folder / "model.safetensors").write_bytes(bytes(99_999) + b"1")
    assert judge_record(config, "r").slug != first.slug
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        make_judge(JudgeConfig("local", str(tmp_path / "none")), tmp_path)


def test_a_missing_key_is_found_when_the_judge_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"needs a key.*OPENAI_API_KEY"):
        make_judge(JudgeConfig("endpoint", "m"), tmp_path)
    make_judge(JudgeConfig("endpoint", "m"), tmp_path, asks=False)  # for an estimate
    make_judge(JudgeConfig("endpoint", "m", "http://localhost:1/v1"), tmp_path)


def test_a_judge_s_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with JudgingProgress(JudgeConfig("endpoint", "m[/INST]"), 1, 0):
        pass
    assert "judging: m[/INST]" in capsys.readouterr().out
