"""Settings: where they come from, which source wins, and what is said about a mistake."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.settings import (
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_LOGGING_LEVEL,
    temporary_settings,
)
from pydantic import SecretStr, ValidationError

from noa_flows.errors import ConfigurationError
from noa_flows.payload_names import camel_case
from noa_flows.settings import (
    BridgeSettings,
    EmbeddedProvider,
    RedisProvider,
    Settings,
    get_settings,
    load_settings,
)
from noa_flows.settings.groups import SettingsGroup
from noa_flows.settings.layers import Layer, merged, read_layer
from noa_flows.settings.provider import RedisConfig
from noa_flows.settings.shape import Shape

ORIGINAL_NAMES = ("REDIS_", "RABBITMQ_", "AWS_", "SMTP_", "LOG_LEVEL", "NOA_")
HARMLESS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=12, max_size=40)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, an environment without our names, and no cached settings."""
    for name in list(os.environ):
        if name.startswith(ORIGINAL_NAMES):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def mistakes_of(**overrides: object) -> list[str]:
    """Load the settings, which must fail, and return the lines of the report."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    assert caught.value.__context__ is None, "the validation error quotes values"
    head, *lines = str(caught.value).splitlines()
    assert head == f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in the settings:"
    return [line.removeprefix("- ") for line in lines]


@cache
def settings_shape() -> Shape:
    return Shape.of_schema(Settings.model_json_schema())


def nested(path: Iterable[str]) -> dict[str, Any]:
    """Write a path as tables in tables, with a value at its end."""
    tree: Any = "value"
    for step in reversed(list(path)):
        tree = {step: tree}
    return tree


class TestSources:
    def test_without_any_source_the_defaults_hold(self) -> None:
        settings = load_settings()
        assert settings.provider.type == "embedded"
        assert settings.bridge == BridgeSettings()
        assert settings.bridge.schedule_horizon == timedelta(hours=1)
        assert settings.monitoring.interval == timedelta(minutes=1)
        assert settings.jobs == {}

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("noa.toml", "[workers]\nmax_workers = 7\n"),
            ("noa.yaml", "workers:\n  max_workers: 7\n"),
            ("noa.json", '{"workers": {"max_workers": 7}}'),
        ],
    )
    def test_a_file_in_the_working_folder_is_read(self, folder: Path, name: str, text: str) -> None:
        (folder / name).write_text(text)
        assert load_settings().workers.max_workers == 7

    def test_the_file_that_noa_config_names_is_read_instead_of_the_one_in_the_folder(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.toml").write_text("[workers]\nmax_workers = 7\n")
        (folder / "other.yml").write_text("workers: {max_workers: 9}")
        monkeypatch.setenv("NOA_CONFIG", str(folder / "other.yml"))
        assert load_settings().workers.max_workers == 9

    def test_an_empty_file_says_nothing(self, folder: Path) -> None:
        (folder / "noa.yaml").write_text("")
        assert load_settings() == Settings()

    def test_a_byte_order_mark_is_no_part_of_the_file(self, folder: Path) -> None:
        (folder / "noa.json").write_text("{}", encoding="utf-8-sig")
        assert load_settings() == Settings()

    def test_the_names_of_the_original_are_read_from_a_file(self, folder: Path) -> None:
        original = {
            "provider": {"type": "redis", "config": {"host": "r", "port": 6380, "password": "pw"}},
            "workers": {"minWorkers": 2, "maxWorkers": 10, "scalingThreshold": 0.8},
            "monitoring": {
                "enabled": True,
                "metricsInterval": 5000,
                "alertRules": [
                    {
                        "name": "errors",
                        "condition": "errorRate > 5",
                        "action": "email",
                        "recipients": ["ops@example.com"],
                    }
                ],
            },
            "retry": {"maxAttempts": 5, "backoffMultiplier": 1.5, "maxBackoffTime": 30_000},
        }
        (folder / "noa.json").write_text(json.dumps(original))
        settings = load_settings()
        assert settings.provider.url == "redis://:pw@r:6380/0"
        assert (settings.workers.min_workers, settings.workers.scaling_threshold) == (2, 0.8)
        assert settings.monitoring.interval == timedelta(seconds=5)
        assert settings.monitoring.alert_rules[0].recipients == ("ops@example.com",)
        assert settings.retry.longest_pause == timedelta(seconds=30)
        assert settings.retry.first_pause == timedelta(seconds=1)

    def test_a_variable_for_each_field_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOA_WORKERS__SCALING_THRESHOLD", "0.5")
        monkeypatch.setenv("NOA_PROVIDER__TYPE", "redis")
        monkeypatch.setenv("NOA_PROVIDER__CONFIG__TLS", "true")
        monkeypatch.setenv("NOA_JOBS__INVOICE", "acme.jobs:invoice")
        settings = load_settings()
        assert settings.workers.scaling_threshold == 0.5
        assert settings.provider.url == "rediss://localhost:6379/0"
        assert settings.jobs == {"invoice": "acme.jobs:invoice"}

    def test_a_variable_holds_a_list_with_commas_or_as_json(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOA_PROVIDER__TYPE", "kafka")
        monkeypatch.setenv("NOA_PROVIDER__CONFIG__BROKERS", "a:9092, b:9092")
        assert load_settings().provider.url == "kafka://a:9092,b:9092"
        monkeypatch.setenv("NOA_PROVIDER__CONFIG__BROKERS", '["c:9092"]')
        assert load_settings().provider.url == "kafka://c:9092"

    def test_a_variable_holds_a_table_as_json_which_a_more_particular_variable_completes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOA_WORKERS", '{"minWorkers": 2, "maxWorkers": 5}')
        monkeypatch.setenv("NOA_WORKERS__MAX_WORKERS", "6")
        workers = load_settings().workers
        assert (workers.min_workers, workers.max_workers) == (2, 6)

    def test_an_empty_variable_counts_as_unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOA_SMTP__PORT", "")
        monkeypatch.setenv("REDIS_HOST", "")
        assert load_settings() == Settings()

    def test_variables_of_the_test_suite_are_no_settings(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOA_TEST_REDIS_URL", "redis://localhost")
        assert load_settings() == Settings()

    def test_storage_log_level_and_queue_file_come_from_prefects_settings(
        self, folder: Path
    ) -> None:
        theirs: dict[object, object] = {
            PREFECT_HOME: folder / "home",
            PREFECT_LOCAL_STORAGE_PATH: folder / "results",
            PREFECT_LOGGING_LEVEL: "ERROR",
        }
        with temporary_settings(theirs):  # pyright: ignore[reportArgumentType]
            settings = load_settings()
        assert settings.storage == folder / "results"
        assert settings.log_level == "ERROR"
        assert settings.provider.url == f"embedded://{folder / 'home' / 'noa-queue.db'}"

    def test_a_relative_folder_of_prefects_is_made_absolute(self, folder: Path) -> None:
        with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: Path("results")}):
            assert load_settings().storage == folder / "results"

    def test_one_tree_comes_from_file_environment_and_prefects_settings(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.toml").write_text("[workers]\nminWorkers = 2\n")
        monkeypatch.setenv("NOA_WORKERS__MAX_WORKERS", "3")
        with temporary_settings({PREFECT_LOGGING_LEVEL: "WARNING"}):
            settings = load_settings()
        assert (settings.workers.min_workers, settings.workers.max_workers) == (2, 3)
        assert settings.log_level == "WARNING"

    def test_made_directly_settings_read_no_source(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.toml").write_text("[workers]\nminWorkers = 2\n")
        monkeypatch.setenv("NOA_WORKERS__MAX_WORKERS", "9")
        assert Settings().workers.max_workers == 4

    def test_get_settings_reads_once_until_its_cache_is_cleared(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = get_settings()
        monkeypatch.setenv("NOA_WORKERS__MAX_WORKERS", "9")
        assert get_settings() is first
        get_settings.cache_clear()
        assert get_settings().workers.max_workers == 9


class TestPrecedence:
    def test_each_source_wins_over_those_below_it(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with temporary_settings({PREFECT_LOGGING_LEVEL: "DEBUG"}):
            assert load_settings().log_level == "DEBUG"
            (folder / "noa.toml").write_text('logLevel = "info"\n')
            assert load_settings().log_level == "INFO"
            monkeypatch.setenv("LOG_LEVEL", "warning")
            assert load_settings().log_level == "WARNING"
            monkeypatch.setenv("NOA_LOG_LEVEL", "error")
            assert load_settings().log_level == "ERROR"
            assert load_settings(log_level="critical").log_level == "CRITICAL"

    def test_a_higher_source_completes_a_table_and_replaces_a_list(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.yaml").write_text(
            "provider: {type: redis, config: {host: r, port: 1}}\n"
            "webhook: {allowed_hosts: [a.example, b.example]}\n"
        )
        monkeypatch.setenv("NOA_PROVIDER__CONFIG__PORT", "2")
        monkeypatch.setenv("NOA_WEBHOOK__ALLOWED_HOSTS", "c.example")
        settings = load_settings()
        assert settings.provider.url == "redis://r:2/0"
        assert settings.webhook.allowed_hosts == ("c.example",)

    def test_an_argument_may_be_a_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOA_BRIDGE__BATCH_SIZE", "5")
        monkeypatch.setenv("REDIS_PORT", "1")
        settings = load_settings(
            bridge=BridgeSettings(batch_size=7),
            provider=RedisProvider(config=RedisConfig(host="r")),
        )
        assert settings.bridge.batch_size == 7
        assert settings.provider.url == "redis://r:6379/0"

    @given(
        upper=st.dictionaries(st.sampled_from("abc"), st.integers()),
        lower=st.dictionaries(st.sampled_from("abc"), st.integers()),
    )
    def test_a_field_is_the_highest_sources_that_gives_it(
        self, upper: dict[str, int], lower: dict[str, int]
    ) -> None:
        layers = [
            Layer(where="upper", values={"g": upper}),
            Layer(where="lower", values={"g": lower}),
        ]
        assert merged(layers) == {"g": lower | upper}


class TestProvider:
    def test_redis_host_chooses_redis_where_nothing_else_does(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_HOST", "r")
        monkeypatch.setenv("REDIS_PORT", "6380")
        monkeypatch.setenv("REDIS_PASSWORD", "p@ss/word")
        monkeypatch.setenv("RABBITMQ_HOST", "q")
        assert load_settings().provider.url == "redis://:p%40ss%2Fword@r:6380/0"

    def test_rabbitmq_host_chooses_rabbitmq_where_nothing_else_does(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RABBITMQ_HOST", "q")
        monkeypatch.setenv("RABBITMQ_USER", "u")
        monkeypatch.setenv("RABBITMQ_PASSWORD", "pw")
        assert load_settings().provider.url == "amqp://u:pw@q:5672/%2F"

    def test_aws_variables_choose_nothing_but_serve_sqs_once_it_is_chosen(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/b")
        assert load_settings().provider.type == "embedded"
        chosen = load_settings(provider={"type": "sqs", "config": {"endpoint": "http://l:1"}})
        assert chosen.provider.url == "sqs://id:a%2Fb@eu-central-1?endpoint=http%3A%2F%2Fl%3A1"

    def test_variables_of_a_provider_that_is_not_chosen_are_passed_over(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.toml").write_text('[provider]\ntype = "embedded"\n')
        monkeypatch.setenv("REDIS_HOST", "r")
        monkeypatch.setenv("REDIS_PORT", "no number")
        assert load_settings().provider.type == "embedded"

    def test_what_a_file_says_about_an_overruled_provider_is_left_aside(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.toml").write_text(
            '[provider]\ntype = "redis"\nconfig = {host = "r", port = 1}\n'
        )
        monkeypatch.setenv("NOA_PROVIDER__TYPE", "embedded")
        assert load_settings().provider == EmbeddedProvider()

    def test_the_embedded_queue_file_is_absolute(self, folder: Path) -> None:
        settings = load_settings(provider={"config": {"path": "a b.db"}})
        assert settings.provider.url == f"embedded://{folder}/a%20b.db"

    def test_an_ipv6_address_is_bracketed(self) -> None:
        assert RedisProvider(config=RedisConfig(host="::1")).url == "redis://[::1]:6379/0"

    @given(user=st.text(min_size=1), password=st.text())
    def test_the_url_carries_any_login(self, user: str, password: str) -> None:
        config = RedisConfig(username=user, password=SecretStr(password))
        parts = urlsplit(RedisProvider(config=config).url)
        assert unquote(parts.username or "") == user
        assert unquote(parts.password or "") == password
        assert (parts.hostname, parts.port, parts.path) == ("localhost", 6379, "/0")


TWELVE = """
storrage: /srv
provider: {type: redis, config: {prot: 6379, port: 70000, password: [hunter2]}}
workers: {minWorkers: 0, maxWorker: 3, scalingThreshold: 1.5}
monitoring: {alertRules: [{name: slow, action: sms, recipients: [a@b]}]}
retry: {maxAttempts: many}
jobs: {ok: nope}
bridge: hello
"""


class TestMistakes:
    def test_twelve_mistakes_are_reported_at_once_with_place_path_value_and_remedy(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.yaml").write_text(TWELVE)
        monkeypatch.setenv("NOA_WORKRES__MIN_WORKERS", "3")
        monkeypatch.setenv("SMTP_PORT", "smtp")
        assert sorted(mistakes_of()) == sorted(
            [
                "noa.yaml: storrage = '/srv': unknown; did you mean 'storage'?",
                "noa.yaml: provider.config.prot = ***: unknown; did you mean 'port'?",
                "noa.yaml: provider.config.port = 70000: give an integer from 1 to 65535",
                "noa.yaml: provider.config.password = ***: give text",
                "noa.yaml: workers.minWorkers = 0: give an integer from 1 to 1000",
                "noa.yaml: workers.maxWorker = 3: unknown; did you mean 'maxWorkers'?",
                "noa.yaml: workers.scalingThreshold = 1.5: give a number from 0 to 1",
                (
                    "noa.yaml: monitoring.alertRules[0].condition: missing; "
                    "give text such as `errorRate > 5`"
                ),
                "noa.yaml: monitoring.alertRules[0].action = 'sms': give one of email, webhook",
                "noa.yaml: retry.maxAttempts = 'many': give an integer from 1 to 100",
                "noa.yaml: jobs.ok = 'nope': give text such as `acme.jobs:invoice`",
                "noa.yaml: bridge = 'hello': give a table",
                "NOA_WORKRES__MIN_WORKERS = '3': unknown; did you mean 'NOA_WORKERS__MIN_WORKERS'?",
                "SMTP_PORT: smtp.port = 'smtp': give an integer from 1 to 65535",
            ]
        )

    def test_a_mistake_names_the_highest_source_that_gave_the_value(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.toml").write_text("[retry]\nmax_attempts = 2\n")
        monkeypatch.setenv("NOA_RETRY__MAX_ATTEMPTS", "0")
        assert mistakes_of() == [
            "NOA_RETRY__MAX_ATTEMPTS: retry.max_attempts = '0': give an integer from 1 to 100"
        ]
        assert mistakes_of(retry={"max_attempts": -1}) == [
            "argument: retry.max_attempts = -1: give an integer from 1 to 100"
        ]

    def test_bounds_that_contradict_each_other_name_every_source_of_the_group(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "noa.toml").write_text("[workers]\nmax_workers = 2\n")
        monkeypatch.setenv("NOA_WORKERS__MIN_WORKERS", "5")
        assert mistakes_of() == [
            (
                "NOA_WORKERS__MIN_WORKERS, noa.toml: workers: min_workers (5) is above max_workers "
                "(2); lower the one or raise the other"
            )
        ]

    @pytest.mark.parametrize(
        ("rules", "remedy"),
        [
            ([("a", "email", "https://x")], "recipients: the action is email; give mail addresses"),
            (
                [("a", "webhook", "a@b")],
                "recipients: the action is webhook; give http or https URLs",
            ),
            ([("a", "email", "a@b")] * 2, "alert_rules: rename all but one of the rules named 'a'"),
        ],
    )
    def test_alert_rules_that_make_no_sense_are_refused(
        self, rules: list[tuple[str, str, str]], remedy: str
    ) -> None:
        written = [
            {"name": name, "condition": "x > 1", "action": action, "recipients": [recipient]}
            for name, action, recipient in rules
        ]
        (line,) = mistakes_of(monitoring={"alertRules": written})
        assert line.endswith(remedy)

    @pytest.mark.parametrize("first", ["minWorkers", "min_workers"])
    def test_both_spellings_of_one_name_are_refused(self, first: str) -> None:
        both = dict.fromkeys([first, "minWorkers", "min_workers"], 2)
        assert mistakes_of(workers=both) == [
            (
                "argument: workers.min_workers: given twice, as `min_workers` and as `minWorkers`; "
                "give one of them"
            )
        ]

    def test_the_names_of_job_types_are_not_turned(self) -> None:
        assert load_settings(jobs={"max-rows": "a.b:c"}).jobs == {"max-rows": "a.b:c"}
        (line,) = mistakes_of(jobs={"maxRows": "a.b:c"})
        assert line.startswith("argument: jobs.maxRows: rename it: ")

    @pytest.mark.parametrize(
        ("group", "field", "value", "remedy"),
        [
            ("monitoring", "enabled", "maybe", "give true or false"),
            ("webhook", "connect_timeout_seconds", 0, "give a number from above 0 to 30"),
            ("webhook", "allowed_hosts", 3, "give a list"),
            ("webhook", "ca_file", 3, "give a path"),
            ("reports", "organisation", "x" * 121, "give text up to 120 characters long"),
            ("smtp", "host", "smtp://mail", "give text such as `smtp.example.com`"),
            ("smtp", "user", 3, "give text"),
            ("smtp", "user", ["a"], "give text"),
        ],
    )
    def test_the_remedy_says_what_the_field_takes(
        self, group: str, field: str, value: object, remedy: str
    ) -> None:
        (line,) = mistakes_of(**{group: {field: value}})
        assert line.startswith(f"argument: {group}.{field} = ")
        assert line.endswith(f": {remedy}")

    def test_a_long_value_is_shortened(self) -> None:
        (line,) = mistakes_of(log_level="x" * 1000)
        assert len(line) < 160

    def test_a_wrong_provider_lists_the_right_ones(self) -> None:
        assert mistakes_of(provider={"type": "rediss"}) == [
            "argument: provider.type = 'rediss': give one of embedded, redis, rabbitmq, kafka, sqs"
        ]

    def test_a_missing_field_names_the_source_of_its_group(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOA_PROVIDER__TYPE", "sqs")
        assert mistakes_of() == [
            "NOA_PROVIDER__TYPE: provider.config.region: missing; give text such as `eu-central-1`"
        ]

    @pytest.mark.parametrize("text", ["no json", "5", '["a"]'])
    def test_a_variable_for_a_table_must_hold_json(
        self, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOA_WORKERS", text)
        assert mistakes_of() == [f'NOA_WORKERS = {text!r}: give JSON, as {{"…": …}}']

    @pytest.mark.parametrize(
        ("name", "content", "remedy"),
        [
            ("noa.toml", b"a = \n", "not TOML: Invalid value (at line 1, column 5)"),
            ("noa.json", b'{\n "a": }', "not JSON: Expecting value (at line 2, column 7)"),
            ("noa.yaml", b"a: 1\nb: ]", "not YAML: "),
            ("noa.yaml", b"a: \x07", "not YAML: "),
            ("noa.yaml", b"- a", "the top level is no table; begin with a group"),
            ("noa.json", b"3", "the top level is no table; begin with a group"),
            ("noa.toml", b"a = '\xff'", "not UTF-8 at byte 5; save the file as UTF-8"),
        ],
    )
    def test_a_file_that_is_no_table_is_refused_with_the_place(
        self, folder: Path, name: str, content: bytes, remedy: str
    ) -> None:
        (folder / name).write_bytes(content)
        (line,) = mistakes_of()
        assert line.startswith(f"{name}: {remedy}")

    def test_a_yaml_mistake_has_its_line_and_column(self, folder: Path) -> None:
        (folder / "noa.yaml").write_text("a: 1\nb: ]")
        (line,) = mistakes_of()
        assert "(at line 2, column 4)" in line

    def test_a_file_that_is_named_but_missing_is_a_mistake_beside_the_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOA_CONFIG", "/nowhere/noa.toml")
        assert mistakes_of(storage=3) == [
            "/nowhere/noa.toml: no such file; make it, or unset NOA_CONFIG",
            "argument: storage = 3: give a path",
        ]

    def test_a_folder_in_place_of_the_file_is_a_mistake(self, folder: Path) -> None:
        (folder / "noa.toml").mkdir()
        assert mistakes_of() == [
            "noa.toml: can't be read: Is a directory; name a file that may be read"
        ]

    def test_a_file_of_another_kind_is_a_mistake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOA_CONFIG", "noa.ini")
        assert mistakes_of() == [
            "noa.ini: unknown kind of file; give one that ends with .toml, .yaml, .yml, .json"
        ]

    def test_two_files_in_the_working_folder_are_a_mistake(self, folder: Path) -> None:
        (folder / "noa.toml").touch()
        (folder / "noa.json").touch()
        assert mistakes_of() == [
            f"{folder}: keep one of noa.toml and noa.json, or name one in NOA_CONFIG"
        ]

    @given(st.sampled_from(sorted(Settings.model_fields)), st.data())
    def test_a_slip_in_a_groups_name_is_answered_with_the_name(
        self, group: str, data: st.DataObject
    ) -> None:
        at = data.draw(st.integers(0, len(group) - 2))
        slip = group[: at + 1] + group[at:]
        empty: dict[str, object] = {}
        (line,) = mistakes_of(**{slip: empty})
        assert line == f"argument: {slip} = a table: unknown; did you mean {group!r}?"


class TestSecrets:
    SECRETS: Mapping[str, str] = {
        "REDIS_PASSWORD": "hunter2-redis",
        "SMTP_PASSWORD": "hunter2-smtp",
    }

    def test_neither_repr_nor_str_nor_json_shows_a_secret(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, secret in self.SECRETS.items():
            monkeypatch.setenv(name, secret)
        settings = load_settings(provider={"type": "redis"})
        assert "hunter2" in settings.provider.url
        for text in (repr(settings), str(settings), settings.model_dump_json()):
            assert "hunter2" not in text

    @given(secret=HARMLESS)
    def test_no_mistake_shows_a_secret(self, secret: str) -> None:
        lines = mistakes_of(
            provider={
                "type": "redis",
                "config": {"password": [secret], "pasword": secret, "pw": secret},
            },
            smtp={"host": f"smtp://user:{secret}@mail", "pass": secret, "Password": secret},
            redis_password=secret,
        )
        assert len(lines) == 7
        assert secret not in "\n".join(lines)

    @pytest.mark.parametrize(
        "name", ["NOA_SMTP__PASWORD", "NOA_SMPT__PASSWORD", "NOA_REDIS_URL", "NOA_API_TOKEN"]
    )
    def test_a_misspelt_variable_does_not_show_what_may_be_secret(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, "hunter2")
        (line,) = mistakes_of()
        assert line.startswith(f"{name} = ***: unknown")

    def test_a_table_that_may_hold_a_secret_is_masked_as_a_whole(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOA_PROVIDER", "redis://:hunter2@r")
        assert mistakes_of() == ['NOA_PROVIDER = ***: give JSON, as {"…": …}']

    @pytest.mark.parametrize("value", ["*hunter2", "!hunter2", "!!int hunter2"])
    def test_a_password_that_yaml_does_not_take_for_text_is_not_quoted(
        self, folder: Path, value: str
    ) -> None:
        (folder / "noa.yaml").write_text(f"smtp:\n  password: {value}\n")
        (line,) = mistakes_of()
        assert line.startswith("noa.yaml: not YAML: ")
        assert "hunter2" not in line

    def test_a_login_in_a_url_is_masked_wherever_the_url_was_given(self) -> None:
        url = "http://user:hunter2/3@host"
        lines = mistakes_of(webhook={"allowed_hosts": [url]}, provider={"type": url}, bridge=url)
        assert len(lines) == 3
        assert "hunter2" not in "\n".join(lines)

    def test_settings_made_directly_keep_wrong_values_out_of_the_error(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Settings.model_validate({"smtp": {"password": ["hunter2"]}})
        assert "hunter2" not in str(caught.value)


class TestTree:
    def test_settings_are_frozen(self) -> None:
        with pytest.raises(ValidationError):
            Settings().workers.max_workers = 3  # pyright: ignore[reportAttributeAccessIssue]

    def test_every_field_of_every_group_is_described(self) -> None:
        schema = Settings.model_json_schema()
        tables = [schema, *schema["$defs"].values()]
        undescribed = [
            f"{table['title']}.{name}"
            for table in tables
            for name, field in table.get("properties", {}).items()
            if not field.get("description")
        ]
        assert undescribed == []

    def test_every_group_refuses_unknown_names(self) -> None:
        schema = Settings.model_json_schema()
        assert all(t["additionalProperties"] is False for t in [schema, *schema["$defs"].values()])
        assert issubclass(Settings, SettingsGroup)

    @given(st.data())
    def test_both_spellings_of_a_field_mean_the_same(self, data: st.DataObject) -> None:
        shape = settings_shape()
        path = data.draw(st.sampled_from(sorted(set(shape.leaves()))))
        layer, mistakes = read_layer("file", nested(map(camel_case, path)), shape)
        assert layer.values == nested(path)
        assert layer.name_of(path) == ".".join(map(camel_case, path))
        assert mistakes == []
