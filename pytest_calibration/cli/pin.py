"""``pytest-calibration pin``: the commit of each public data set, written into calibration.yaml."""

from __future__ import annotations

import argparse
import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_calibration.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from pytest_calibration.cli.arguments import Subparsers
    from pytest_calibration.config import Config
    from pytest_calibration.items.dataset import Dataset


def add(subparsers: Subparsers) -> None:
    """Add the parser of this command."""
    parser = subparsers.add_parser(
        "pin",
        help="write the commit of each public data set into calibration.yaml",
        description="Ask the hub for the commit of each public data set that the probes of "
        "calibration.yaml read, and write it there as `revision:`. Nothing else in the file "
        "changes. Needs a network.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "probe", nargs="*", metavar="PROBE", help="probe or preset to pin (default: all in the "
        "file); a preset that is not in the file is added under `presets:`",
    )  # fmt: skip
    parser.add_argument(
        "--config", metavar="FILE", help="file to write into (default: calibration.yaml)"
    )
    parser.add_argument(
        "--update", action="store_true", help="move also what is pinned, to the newest commit"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Pin, and print what was pinned.

    Raises:
        UsageError: nothing to pin, or a name that is no probe of a public data set.
        ConfigError: the file cannot be read, or not be changed in this one place.
        ItemError: the hub cannot be asked; nothing is written.
    """
    from pytest_calibration.cli.yaml_edit import with_value
    from pytest_calibration.config import CONFIG, Config, nearest_config, read_config
    from pytest_calibration.files import write_atomically
    from pytest_calibration.input_files import read_text
    from pytest_calibration.items.dataset import COMMIT
    from pytest_calibration.strict_yaml import MAX_BYTES

    named = Path(options.config) if options.config else nearest_config(Path.cwd())
    path = named or Path(CONFIG)
    config = read_config(path) if named else Config(path)
    text = read_text(path, MAX_BYTES, ConfigError) if named else ""
    lines, commits = [], {}
    for pin in list(_pins(config, options.probe, str(path))):
        before = pin.dataset.revision
        if before and COMMIT.fullmatch(before) and not options.update:
            lines.append(f"{pin.probe}: {pin.dataset.id} is pinned at {before}")
            continue
        # A branch or tag says which commits count, and a commit is what it was then.
        wanted = None if before and COMMIT.fullmatch(before) else before
        key = (pin.dataset.id, wanted)
        if key not in commits:
            commits[key] = pin.dataset.commit_on_hub(wanted)
        text = with_value(text, pin.keys, commits[key], path)
        lines.append(f"{pin.probe}: {pin.dataset.id} pinned at {commits[key]}")
    if not lines:
        raise UsageError(
            f"{path}: no probe here reads a data set of the hub; name a preset: "
            "pytest-calibration pin mmlu."
        )
    if commits:
        mark = codecs.BOM_UTF8 if named and path.read_bytes()[:3] == codecs.BOM_UTF8 else b""
        try:
            write_atomically(path.resolve(), mark + text.encode("utf-8"))
        except OSError as problem:
            raise ConfigError(f"{path}: cannot be written ({problem.strerror}).") from None
    print("\n".join(lines))
    return 0


class Pin(NamedTuple):
    """A data set, and where its revision is written.

    Attributes:
        probe: name of the probe or preset.
        dataset: what it reads.
        keys: way to the revision in the file.
    """

    probe: str
    dataset: Dataset
    keys: tuple[str, ...]


def _pins(config: Config, names: list[str], where: str) -> Iterator[Pin]:
    """Yield what can be pinned: the probes named, or all of the file.

    Raises:
        UsageError: a name that is neither a probe nor a preset, or reads no data set of the hub.
    """
    from pytest_calibration.errors import suggestion
    from pytest_calibration.items.dataset import Dataset
    from pytest_calibration.probes.presets import all_presets, full_settings

    presets = all_presets(config.presets)
    for name in dict.fromkeys(names or [*config.probes, *config.presets]):
        section = "probes" if name in config.probes else "presets"
        entry: Any = config.probes.get(name, presets.get(name))
        if entry is None:
            known = [*config.probes, *presets]
            raise UsageError(
                f"{where}: no probe or preset is called {name!r}{suggestion(name, known)}; known: "
                f"{', '.join(known)}."
            )
        place = f"{where}: {section}.{name}"
        settings = full_settings(name, entry, presets, place).get("dataset")
        dataset = None if settings is None else Dataset.of(settings, place)
        if dataset is not None and dataset.path is None:
            yield Pin(name, dataset, (section, name, "dataset", "revision"))
        elif names:
            what = "no data set" if dataset is None else "a copy of a data set, at its path"
            raise UsageError(f"{place} reads {what}; there is no commit to pin.")
