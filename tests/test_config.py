"""``calibration.yaml``: what it may say, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_calibration.config import Config, read_config
from pytest_calibration.errors import ConfigError, UsageError
from pytest_calibration.gate.strictness import OperatingPoint
from pytest_calibration.models.backends import BACKENDS
from pytest_calibration.models.loading import load_model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file lies."""
    return tmp_path / "calibration.yaml"


def test_every_setting_is_read(path: Path) -> None:
    """Model settings, probes, tolerance and alpha arrive as they are written."""
    path.write_text(
        """
model:
  device: cpu
  dtype: float32
  batch_tokens: 512
  tokenizer: null
  trust_remote_code: true
  safetensors_only: false
  arguments: {attn_implementation: eager}
  tokenizer_arguments: {add_bos_token: false}
probes:
  facts:
  mine: {kind: facts, path: rows.jsonl, limit: 200, tolerance: 0.03}
tolerance: 0.01
alpha: 0.1
""",
        encoding="utf-8",
    )
    config = read_config(path)
    assert config.path == path
    assert config.folder == path.parent
    assert config.probes["facts"] == {}
    assert config.probes["mine"]["path"] == "rows.jsonl"
    assert (config.tolerance, config.alpha) == (0.01, 0.1)
    settings = config.load_settings()
    assert settings == {
        "device": "cpu",
        "dtype": "float32",
        "batch_tokens": 512,
        "tokenizer": None,
        "trust_remote_code": True,
        "safetensors_only": False,
        "arguments": {"attn_implementation": "eager"},
        "tokenizer_arguments": {"add_bos_token": False},
    }


@pytest.mark.parametrize("text", ["", "model:\nprobes:\n", "tolerance: null\nalpha: null\n"])
def test_an_empty_file_says_nothing(path: Path, text: str) -> None:
    """Keys without a value are as good as none."""
    path.write_text(text, encoding="utf-8")
    config = read_config(path)
    assert (config.model, config.probes, config.tolerance, config.alpha) == ({}, {}, None, None)
    assert config.load_settings() == {}


def test_no_file_is_a_configuration_that_says_nothing() -> None:
    """Without a file, paths are relative to where the run is."""
    assert Config().folder == Path()
    assert Config().limits == {}
    assert Config().probe_tolerance("facts") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probe: {}", r"unknown key probe \(did you mean 'probes'\?\); known keys: model, probes"),
        ("colour: red", r"unknown key colour; known keys: model, probes, presets, "),
        ("model: {dytpe: float32}", r"unknown key model\.dytpe \(did you mean 'dtype'\?\)"),
        ("model: gpt2", r"model must be a mapping with text keys, got 'gpt2'"),
        ("model: []", r"model must be a mapping with text keys, got \[\]"),
        ("model: {device: 1}", r"model: device must be text, got 1"),
        ("model: {device: null}", r"model: device must be text, got None"),
        ("model: {device: tpu}", r"model: unknown device 'tpu'; use one of auto, cpu, cuda, mps"),
        ("model: {dtype: 32}", r"model: dtype must be text, got 32"),
        ("model: {dtype: int8}", r"model: unknown dtype 'int8'; use one of auto, float32"),
        ("model: {temperature: hot}", r"model: temperature must be a number, got 'hot'"),
        ("model: {temperature: true}", r"model: temperature must be a number, got True"),
        ("model: {temperature: 0}", r"model: temperature must be a finite number above 0, got 0;"),
        (
            "model: {temperature: -2}",
            r"model: temperature must be a finite number above 0, got -2;",
        ),
        (
            "model: {temperature: .inf}",
            r"model: temperature must be a finite number above 0, got inf;",
        ),
        (
            "model: {temperature: .nan}",
            r"model: temperature must be a finite number above 0, got nan;",
        ),
        (
            "model: {batch_tokens: 2k}",
            r"model: batch_tokens must be a whole number or null, .*'2k'",
        ),
        (
            "model: {batch_tokens: yes}",
            r"model: batch_tokens must be a whole number or null, .*'yes'",
        ),
        ("model: {batch_tokens: 0}", r"model: batch_tokens must be at least 1, got 0"),
        ("model: {tokenizer: 3}", r"model: tokenizer must be text or null, got 3"),
        ("model: {trust_remote_code: 1}", r"model: trust_remote_code must be true or false, got 1"),
        ("model: {safetensors_only: 'no'}", r"model: safetensors_only must be true or .*got 'no'"),
        ("model: {arguments: [1]}", r"model: arguments must be a mapping, got \[1\]"),
        ("model: {tokenizer_arguments: x}", r"model: tokenizer_arguments must be a mapping, got"),
        ("probes: [facts]", r"probes must be a mapping with text keys, got \['facts'\]"),
        ("probes: {1: {}}", r"probes must be a mapping with text keys, got \{1: \{\}\}"),
        ("probes: {a: facts}", r"probes\.a must be a mapping with text keys, got 'facts'"),
        (
            "probes: {a: {limit: 0}}",
            r"probes\.a\.limit must be a whole number of at least 1, got 0",
        ),
        ("probes: {a: {limit: 1.5}}", r"probes\.a\.limit must be a whole number .*got 1\.5"),
        ("probes: {a: {limit: yes}}", r"probes\.a\.limit must be a whole number .*got 'yes'"),
        ("probes: {a: {limit: true}}", r"probes\.a\.limit must be a whole number .*got True"),
        ("probes: {a: {limit: 1_000}}", r"probes\.a\.limit must be a whole .*got '1_000'"),
        ("probes: {a: {tolerance: 1}}", r"probes\.a\.tolerance must be .*and below 1, got 1"),
        ("probes: {a: {tolerance: 1:30}}", r"probes\.a\.tolerance must be a number .*got '1:30'"),
        ("tolerance: -0.1", r"tolerance must be a number of at least 0 and below 1, got -0\.1"),
        ("tolerance: yes", r"tolerance must be a number of at least 0 and below 1, got 'yes'"),
        ("tolerance: .inf", r"tolerance must be a number of at least 0 and below 1, got inf"),
        ("tolerance: .nan", r"tolerance must be a number of at least 0 and below 1, got nan"),
        ("alpha: 0.5", r"alpha must be a number above 0 and below 0\.5, got 0\.5"),
        ("alpha: 0", r"alpha must be a number above 0 and below 0\.5, got 0"),
        ("alpha: [0.05]", r"alpha must be a number above 0 and below 0\.5, got \[0\.05\]"),
        ("operating_points: 0.9", r"operating_points must be a list of thresholds.*, got 0\.9"),
        ("operating_points: [2]", r"operating_points\[0\] must be a number of .*at most 1, got 2"),
        ("operating_points: [x]", r"operating_points\[0\] must be a number of .*, got 'x'"),
        ("operating_points: [null]", r"operating_points\[0\] must be a number of .*, got None"),
        ("operating_points: [.9, .9]", r"operating_points\[1\] names the threshold 0\.9 a second"),
        ("operating_points: [{}]", r"operating_points\[0\] needs a threshold: the confidence"),
        (
            "operating_points: [{thresold: 0.9}]",
            r"unknown key operating_points\[0\]\.thresold \(did you mean 'threshold'\?\)",
        ),
        (
            "operating_points: [{threshold: 0.9, tolerance: null}]",
            r"operating_points\[0\]\.tolerance must be a number .*, got None",
        ),
        (
            "probes: {a: {operating_points: {threshold: 0.9}}}",
            r"probes\.a\.operating_points must be a list .*, got \{'threshold': 0\.9\}",
        ),
        ("- model", r"must hold a mapping with text keys, got list"),
        ("alpha: 0.1\nalpha: 0.2", r", line 2: the key 'alpha' is given twice"),
    ],
)
def test_every_bad_key_or_value_is_named_by_file_and_key(
    path: Path, text: str, message: str
) -> None:
    """What is wrong is an error when the file is read, not when it is first used."""
    path.write_text(text, encoding="utf-8")
    separator = "" if message.startswith(",") else ": "
    with pytest.raises(ConfigError, match=rf"calibration\.yaml{separator}{message}"):
        read_config(path)


def test_each_backend_has_keys_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of every backend may be written, but for those that the run decides."""
    path.write_text("model: {percent: 4, dtype: float32, folder: beliefs}", encoding="utf-8")
    (path.parent / "beliefs").mkdir()
    with pytest.raises(ConfigError, match=r"unknown key model\.percent; known keys: device, dtype"):
        read_config(path)
    monkeypatch.setitem(BACKENDS, "toy", "toy_backend")
    settings = read_config(path).load_settings()
    assert settings["folder"] == str(path.parent / "beliefs")
    assert load_model("toy:x", settings).settings.percent == 4
    for text, message in (("percent: 101", "percent must lie"), ("seed: 1", "unknown key model.s")):
        path.write_text(f"model: {{{text}}}", encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            read_config(path)


def test_the_thread_count_is_the_run_s(path: Path) -> None:
    """It depends on how many processes there are, which a file cannot know."""
    path.write_text("model: {threads: 2}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown key model\.threads"):
        read_config(path)


@pytest.mark.parametrize(
    ("entry", "project", "expected"),
    [
        ({"tolerance": 0.05}, 0.01, 0.05),
        ({"tolerance": 0}, 0.01, 0.0),
        ({"tolerance": None}, 0.01, 0.01),
        ({}, 0.01, 0.01),
        ({}, None, None),
    ],
)
def test_the_tolerance_of_a_probe_goes_before_the_project(
    entry: dict[str, float | None], project: float | None, expected: float | None
) -> None:
    """What a probe leaves open, as a missing or empty key, the project says."""
    config = Config(probes={"facts": entry}, tolerance=project)
    assert config.probe_tolerance("facts") == expected


def test_operating_points_of_a_probe_go_before_those_of_the_project(path: Path) -> None:
    """A threshold, or a mapping with tolerances; an empty list is none."""
    path.write_text(
        "operating_points: [0.9, {threshold: 0.5, tolerance: 0.1, coverage_tolerance: null}]\n"
        "presets: {own: {operating_points: [0.7]}}\n"
        "probes: {a: {operating_points: [1]}, b: {operating_points: []}, c: {}, d: {preset: own}}",
        encoding="utf-8",
    )
    config = read_config(path)
    both = (OperatingPoint(0.9), OperatingPoint(0.5, 0.1, None))
    assert config.operating_points("a") == (OperatingPoint(1.0),)
    assert config.operating_points("b") == ()
    assert config.operating_points("d") == (OperatingPoint(0.7),)
    assert config.operating_points("c") == config.operating_points("another") == both
    assert Config().operating_points("a") == ()


def test_the_limit_of_a_probe_is_its_own() -> None:
    """A probe without ``limit:`` has none."""
    config = Config(probes={"facts": {"limit": 7}, "more": {}})
    assert config.limits == {"facts": 7}


def test_a_probe_has_the_limit_and_tolerance_of_its_preset() -> None:
    """What it says itself goes first; a preset runs by its name; one may build on another."""
    presets = {"mmlu": {"limit": 5}, "own": {"preset": "mmlu", "tolerance": 0.2}}
    probes = {
        "mmlu": {"tolerance": 0.1},
        "a": {"preset": "own"},
        "b": {"preset": "own", "limit": 3, "tolerance": 0.0},
        "own": {"kind": "facts"},
        "loop": {"preset": "loop"},
        "odd": {"preset": ["own"]},
    }
    config = Config(probes=probes, presets=presets, tolerance=0.01)
    assert config.limits == {"mmlu": 5, "a": 5, "b": 3}
    assert Config(presets=presets).limits == {"mmlu": 5, "own": 5}
    tolerances = [config.probe_tolerance(name) for name in probes]
    assert tolerances == [0.1, 0.2, 0.0, 0.01, 0.01, 0.01]


def test_the_command_line_goes_before_the_file(path: Path) -> None:
    """A flag wins over the file; a flag that is not given (None) hides nothing."""
    path.write_text("model: {device: cpu, dtype: float16}", encoding="utf-8")
    settings = read_config(path).load_settings(dtype="float32", device=None, batch_tokens=None)
    assert settings == {"device": "cpu", "dtype": "float32"}
    with pytest.raises(UsageError, match="unknown dtype 'half'"):
        read_config(path).load_settings(dtype="half")


@pytest.mark.parametrize("key", ["tokenizer", "base"])
def test_a_folder_beside_the_file_is_found_from_anywhere(
    path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A folder named in the file is relative to it; a hub id, and a flag, stay as they are."""
    (path.parent / "tok").mkdir()
    (path.parent / "elsewhere").mkdir()
    monkeypatch.chdir(path.parent / "elsewhere")
    path.write_text(f"model: {{{key}: tok}}", encoding="utf-8")
    assert read_config(path).load_settings()[key] == str(path.parent / "tok")
    assert read_config(path).load_settings(**{key: "tok"})[key] == "tok"
    path.write_text(f"model: {{{key}: gpt2}}", encoding="utf-8")
    assert read_config(path).load_settings()[key] == "gpt2"
