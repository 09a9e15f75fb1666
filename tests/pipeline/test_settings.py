"""Settings: one declaration, four sources, every mistake at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import SettingsError
from pipeline.settings import Settings, dump_settings, lint, load, load_settings, parse_settings
from pipeline.settings_layers import MASKED, leaves


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weir.yaml"
    path.write_text("topics:\n  lanes: 2\n  prefix: fromfile\npanel: {models: [a, b/3]}\n")
    return path


def mistakes(error: pytest.ExceptionInfo[SettingsError]) -> list[str]:
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_without_anything_given_the_defaults_hold() -> None:
    settings = load_settings(env={})

    assert settings == Settings()
    assert settings.kafka.bootstrap_servers == ("127.0.0.1:9092",)


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(file: Path) -> None:
    env = {"WEIR__TOPICS__LANES": "3", "WEIR__TOPICS__REPLICATION_FACTOR": "3"}

    settings = load_settings(file, ["topics.lanes=4"], env)

    assert settings.topics.lanes == 4
    assert settings.topics.replication_factor == 3
    assert settings.topics.prefix == "fromfile"
    assert settings.topics.alerts_retention_h == 720


def test_every_value_says_where_it_came_from(file: Path) -> None:
    env = {"WEIR__TOPICS__LANES": "3"}
    found = {item.path: item.origin for item in load(file, ["panel.alpha=1e-3"], env).resolved()}

    assert found["topics.lanes"] == "environment variable WEIR__TOPICS__LANES"
    assert found["topics.prefix"] == f"file {file}"
    assert found["panel.alpha"] == "--set"
    assert found["writer.rows"] == "default"


def test_the_file_can_be_named_by_the_environment(file: Path) -> None:
    assert load_settings(env={"WEIR_CONFIG": str(file)}).topics.prefix == "fromfile"


def test_lint_reports_everything() -> None:
    """All mistakes are shown at once, each with its path."""
    assert lint({"topics": {"lnes": 4}, "grouping": {"bucket_s": -1}, "panel": {"alpha": 2}}) == [
        "topics.lnes: unknown setting; did you mean lanes?",
        "panel.alpha: 2 is not at most 1",
        "grouping.bucket_s: -1 is not greater than 0",
    ]


def test_all_sources_are_checked_together_and_named(file: Path) -> None:
    file.write_text("topics: {lanes: none}\nwrker: {}\n")
    env = {"WEIR__WRITER__ROWS": "0", "WEIR__NOTHING__X": "1"}

    with pytest.raises(SettingsError) as error:
        load_settings(file, ["panel.alpha=x", "nonsense", "lanes=3"], env)

    found = mistakes(error)
    assert [line.partition(":")[0] for line in found] == [
        "nothing.x",
        "--set nonsense",
        "lanes",
        "topics.lanes",
        "writer.rows",
        "panel.alpha",
        "wrker",
    ]
    assert "did you mean topics.lanes?" in found[2]
    assert found[3].endswith(f"(file {file})")
    assert found[4] == "writer.rows: 0 is not at least 1 (environment variable WEIR__WRITER__ROWS)"
    assert "did you mean worker?" in found[6]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("topics: [", "not valid YAML"),
        ("- a\n- b\n", "holds a list"),
        ("topics:\n  lanes: 1\n  lanes: 2\n", "'lanes' is given twice"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_settings_file_is_one_sentence(text: str | bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "weir.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    (problem,) = lint(path)
    assert why in problem
    assert str(path) in problem


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read settings from .*: No such file"):
        load_settings(tmp_path / "none.yaml", env={})


def test_a_section_that_is_all_comments_is_empty() -> None:
    assert lint({"topics": None, "panel": None}) == []


def test_lists_and_mappings_can_be_given_as_text() -> None:
    overrides = [
        "panel.models=a, b/2",
        "writer.sensor_lanes={hq: 1, dmz: 3}",
        "kafka.bootstrap_servers=a:1,b:2",
    ]

    settings = load_settings(overrides=overrides, env={})

    assert settings.panel.models == ("a", "b/2")
    assert settings.writer.sensor_lanes == {"hq": 1, "dmz": 3}
    assert settings.kafka.bootstrap_servers == ("a:1", "b:2")


def test_null_and_false_can_be_given_as_text() -> None:
    env = {"WEIR__GROUPING__ENABLED": "false"}
    settings = load_settings(overrides=["worker.port=null"], env=env)

    assert settings.worker.port is None
    assert not settings.grouping.enabled


def test_overrides_may_be_values() -> None:
    settings = load_settings(
        overrides={"panel.models": ("a",), "worker.port": None, "topics.lanes": 9}, env={}
    )

    assert (settings.panel.models, settings.worker.port, settings.topics.lanes) == (("a",), None, 9)


def test_a_journal_must_outlive_its_flows() -> None:
    (problem,) = lint({"topics": {"flows_retention_h": 100, "detections_retention_h": 100}})

    assert problem.startswith("topics.features_retention_h: 72 is less than flows_retention_h 100")


def test_a_sensor_must_go_to_a_lane_that_exists() -> None:
    (problem,) = lint({"topics": {"lanes": 2}, "writer": {"sensor_lanes": {"hq": 1, "dmz": 2}}})

    assert problem == (
        "writer.sensor_lanes.dmz: lane 2 does not exist; topics.lanes is 2, lanes count from 0"
    )


def test_sensors_have_lanes_or_are_spread_over_them() -> None:
    (problem,) = lint({"writer": {"lane_by": "src", "sensor_lanes": {"hq": 1}}})

    assert problem.startswith("writer.sensor_lanes: set with lane_by src")


def test_a_secret_is_neither_shown_nor_repeated_in_an_error() -> None:
    env = {"WEIR__KAFKA__SASL_PASSWORD": "geheim"}
    shown = {item.path: item.value for item in load(env=env).resolved()}
    assert shown["kafka.sasl_password"] == MASKED

    (problem,) = lint({"kafka": {"sasl_password": 4711}})
    assert "4711" not in problem
    assert "quotes" in problem


def test_settings_reach_a_child_process_whole() -> None:
    """Secrets and folders included."""
    env = {"WEIR__KAFKA__SASL_PASSWORD": "geheim", "WEIR__WORKER__STATE_DIR": "elsewhere"}
    settings = load_settings(overrides=["writer.sensor_lanes={hq: 1}"], env=env)

    assert parse_settings(dump_settings(settings)) == settings


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(env={}).topics.lanes = 5


def test_every_setting_has_a_meaning() -> None:
    """The reference is made from these sentences."""
    unexplained = [item.path for item in load(env={}).resolved() if not item.description.endswith((".", "."))]
    assert unexplained == []


@examples(max_examples=50, deadline=None)
@given(st.sampled_from([".".join(path) for path, _ in leaves(Settings())]), st.data())
def test_a_misspelt_setting_is_never_ignored(path: str, data: st.DataObject) -> None:
    """Whatever letter is missing, the mistake is named."""
    section, _, name = path.partition(".")
    at = data.draw(st.integers(0, len(name) - 1))
    misspelt = name[:at] + name[at + 1 :]

    (problem,) = lint({section: {misspelt: 1}})

    assert problem.startswith(f"{section}.{misspelt}: unknown setting")
