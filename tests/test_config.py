"""Reading configs: what is accepted, and what is said about the rest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptopt import LM, calibrate, distill, plan
from promptopt.config import Config, changes, fingerprint, group, load, parse
from promptopt.config.settings import StrategySettings
from promptopt.errors import ConfigError
from promptopt.init import init

BANKING = """\
name: banking
program:
  type: prompt
  lm: local/qwen2.5-coder-0.5b
  lm_args: {temperature: 0, max_tokens: 24}
  system: "Classify the query. Labels: ..."
  user: "{text}"
  optimize: [system]
data: {path: banking.csv, inputs: [text], expected: label, id: null, group: null,
       split: {train: 60, val: 60, test: 150, seed: 0}}
metric: {type: exact_match}
reflection: {lm: local/qwen2.5-coder-1.5b, lm_args: {max_tokens: 700}}
strategy: {name: reflective}
budget:
  rollouts: 800
  usd: 1.0
run: {dir: runs/banking, seed: 0, concurrency: 8}
lms:
  openai/sim-task: {api_base: "http://127.0.0.1:18900/v1", api_key_env: SIM_KEY, price: {input: 0, output: 0.5}}
"""
FUNCTION = """\
name: f
program:
  type: function
  path: my_program.py:run
  components:
    ask: What is asked?
    answer: {text: "Answer {question}.", role: writes the answer, placeholders: [question]}
data: {train: a.jsonl, val: b.jsonl, inputs: [question]}
metric: exact_match
budget: {calls: 10}
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `banking.yaml` in the current folder, and returns its relative path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        Path("banking.yaml").write_text(text, encoding="utf-8")
        return Path("banking.yaml")

    return write


def complaint(path: Path | str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


def test_the_documented_config_is_read_into_typed_settings(write: Write):
    config = load(write(BANKING))
    assert config.program.type == "prompt"
    assert config.program.system == "Classify the query. Labels: ..."
    assert config.budget.caps.usd == Decimal("1.0")
    assert config.budget.caps.calls is None
    price = config.lms["openai/sim-task"].price
    assert price is not None
    assert price.output == Decimal("0.5")
    assert config.strategy.select == "one_se"


def test_a_function_program_takes_plain_and_described_components(write: Write):
    program = load(write(FUNCTION)).program
    assert program.type == "function"
    assert program.components["ask"].text == "What is asked?"
    assert program.components["answer"].placeholders == ["question"]


def test_a_metric_may_be_a_bare_name(write: Write):
    assert load(write(FUNCTION)).metric == {"type": "exact_match"}


def test_relative_paths_start_from_the_config_s_folder(write: Write, tmp_path: Path):
    write(BANKING)
    config = load(tmp_path / "banking.yaml")
    assert config.resolve("banking.csv") == tmp_path / "banking.csv"
    assert config.run_dir == tmp_path / "runs/banking"
    assert load(tmp_path / "banking.yaml", ["run.dir="]).run_dir == tmp_path / "runs/banking"


def test_the_same_words_can_be_said_from_python(tmp_path: Path):
    words = yaml.safe_load(BANKING)
    config = parse(words, base=tmp_path)
    assert config.run_dir == tmp_path / "runs/banking"
    words["budget"]["rolouts"] = 3
    with pytest.raises(ConfigError, match=r"^config: budget.rolouts is not a setting. Did you mean budget.rollouts\?$"):
        parse(words)


def test_one_group_of_settings_can_be_said_from_python():
    assert group(StrategySettings, {"pipeline": 3}, "strategy").pipeline == 3
    assert group(StrategySettings, None, "strategy") == StrategySettings()
    assert group(StrategySettings, StrategySettings(block=4), "strategy").block == 4
    with pytest.raises(ConfigError) as caught:
        group(StrategySettings, {"pipelin": 3, "block": 0}, "strategy")
    assert str(caught.value).splitlines() == [
        "strategy.block must be at least 1, got 0",
        "strategy.pipelin is not a setting. Did you mean strategy.pipeline?",
    ]
    with pytest.raises(ConfigError, match=r"^strategy must be a mapping, got 'joint'$"):
        group(StrategySettings, cast("Any", "joint"), "strategy")


def test_the_starting_config_is_valid_and_its_rows_suffice(tmp_path: Path):
    paths = init(tmp_path / "new" / "job")
    assert [path.name for path in paths] == ["start.yaml", "rows.csv"]
    config = load(paths[0])
    split = config.data.split
    assert split is not None
    rows = paths[1].read_text(encoding="utf-8").splitlines()
    assert len(rows) - 1 >= split.train + split.val + split.test
    assert rows[0] == "message,topic"


def test_init_overwrites_nothing(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"rows.csv: exists already"):
        init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert (tmp_path / "rows.csv").read_text() == "mine"


def test_init_says_why_it_cannot_write(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        init(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "  rollouts: 800",
            "  rolouts: 800",
            "line 15: budget.rolouts is not a setting. Did you mean budget.rollouts?",
        ),
        ("budget:", "rollouts: 5\nbudget:", "line 14: rollouts is not a setting. Did you mean budget.rollouts?"),
        ("  rollouts: 800", "  rollouts: many", "line 15: budget.rollouts must be a whole number, got 'many'"),
        ("  rollouts: 800", "  rollouts: '8'", "line 15: budget.rollouts must be a whole number, got '8'"),
        ("  rollouts: 800", "  rollouts: true", "line 15: budget.rollouts must be a whole number, got true"),
        ("  rollouts: 800", "  rollouts: 8.5", "line 15: budget.rollouts must be a whole number, got 8.5"),
        ("  rollouts: 800", "  rollouts: 0", "line 15: budget.rollouts must be above 0, got 0"),
        ("  usd: 1.0", "  usd: -1", "line 16: budget.usd must be above 0, got -1"),
        ("  usd: 1.0", "  usd: .nan", "line 16: .nan is not a finite number"),
        ("  usd: 1.0", "  usd: 1e999", "line 16: 1e999 is not a finite number"),
        ("  usd: 1.0", "  usd: '1'", "line 16: budget.usd must be a number, got '1'"),
        ("  rollouts: 800\n  usd: 1.0\n", "  usd: null\n", "line 14: budget needs at least one cap: rollouts, calls"),
        ("type: prompt", "type: flow", "line 3: program.type must be one of prompt, function, dspy, gepa, got 'flow'"),
        ("  type: prompt\n", "", "line 2: program.type is missing; it is one of prompt, function"),
        ("  lm: local/qwen2.5-coder-0.5b\n", "", "line 2: program.lm is missing"),
        ("[system]", "[]", "line 8: program.optimize must not be empty"),
        ("  lm: local", "  messages: [{role: user, content: x}]\n  lm: local", "program takes either system and user"),
        ("  lm: local", "  components: {}\n  lm: local", "program.components is not a setting. There are lm, "),
        ("[system]", "system", "line 8: program.optimize must be a list, got 'system'"),
        ("temperature: 0", "api_key: sk-1", "program.lm_args must not set api_key; that is lms.MODEL.api_key_env"),
        ("temperature: 0", "temperature: hot", "program.lm_args must set temperature to a number, not 'hot'"),
        ("{name: reflective}", "{name: joint, settings: {temperature: [hot]}}", "must set temperature to a number"),
        ("  lm: local", "  prompt: x\n  lm: local", "line 4: program.prompt is not a setting."),
        ("expected: label", "expected: [label, 3]", "line 9: data.expected.1 must be text, got 3"),
        ("expected: label", "expected: 3", "line 9: data.expected must be text, a list or a mapping, got 3"),
        ("val: 60", "val: -1", "line 10: data.split.val must be at least 0, got -1"),
        ("val: 60", "val: many", "line 10: data.split.val must be a number, got 'many'"),
        (",\n       split: {train: 60, val: 60, test: 150, seed: 0}", "", "line 9: data needs a split for its path"),
        ("{type: exact_match}", "[]", "line 11: metric must be a mapping, got a list"),
        ("{type: exact_match}", "{kind: x}", "line 11: metric needs a type, such as exact_match"),
        ("name: banking", "name: ../banking", "line 1: name must be 1 to 64 letters"),
        ("name: banking", "name: ..", "line 1: name must be 1 to 64 letters"),
        ("name: banking", "name: a\nname: b", "line 2: name is said twice; the first time on line 1"),
        ("usd: 1.0", "usd: 1.0\n  usd: 2", "line 17: budget.usd is said twice; the first time on line 16"),
        ("api_base: ", "api_base: htp", "api_base must be an address such as https://host/v1, without a key in it"),
        ("path: banking.csv", 'path: "a\\0b"', "line 9: data.path must be a path, and no path holds a NUL character"),
        ("api_base", "api_bas", "lms.openai/sim-task.api_bas is not a setting. Did you mean lms.openai/sim-task.api_b"),
        ("api_key_env: SIM_KEY", "json_schema: yes", "json_schema must be true or false or 'auto', got 'yes'"),
        ("input: 0,", "input: true,", "line 19: lms.openai/sim-task.price.input must be a number, got true"),
        ("run: {", "run: {<<: {seed: 3}, ", "line 17: merging with << is not supported"),
        ("run: {", "run: {? [a]: 3, ", "line 17: a key must be plain text"),
        ("run: {", "run: {x: !!python/object:os.system y, ", "the tag !!python/object:os.system is not allowed"),
        ("run: {", "run: {x: !!int y, ", "line 17: 'y' cannot be read as !!int"),
        ("run: {", "run: [", "line 17: not valid YAML (expected ',' or ']', but got '}')"),
        ("run: {", "run: {x: *nowhere, ", "line 17: not valid YAML (found undefined alias 'nowhere')"),
        ("run: {", "run: &a {x: *a, ", "line 17: run.x contains itself through an alias"),
        ("run: {", "---\nrun: {", "line 17: not valid YAML (but found another document)"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_told_with_file_line_and_remedy(write: Write, old: str, new: str, said: str):
    assert old in BANKING
    message = complaint(write(BANKING.replace(old, new, 1)))
    assert message.startswith("banking.yaml, line ")
    assert said in f"{message}\n"


def test_every_wrong_setting_has_its_line_up_to_five(write: Write):
    message = complaint(write(BANKING.replace("run: {", "run: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, concurency: 1, ")))
    lines = message.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "and 2 more"
    assert all(line.startswith("banking.yaml, line 17: run.") for line in lines[:-1])


def test_a_complaint_carries_its_file_key_and_line(write: Write):
    with pytest.raises(ConfigError) as caught:
        load(write(BANKING.replace("rollouts", "rolouts")))
    assert (caught.value.file, caught.value.key, caught.value.line) == ("banking.yaml", "budget.rolouts", 15)


def test_later_checks_can_point_at_the_line_of_a_key(write: Write):
    config = load(write(BANKING), ["reflection.lm=x"])
    for key, told in [("data.path", "banking.yaml, line 9: no"), ("metric.pattern.deep", "banking.yaml, line 11: no"),
                      ("reflection.lm", "--set reflection.lm: no"), ("nowhere", "banking.yaml: no")]:  # fmt: skip
        assert str(config.located(ConfigError("no", key=key))) == told


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n- b\n", "must hold settings as `key: value` lines, but it is a list"),
        (b"banking\n", "must hold settings as `key: value` lines, but it is 'banking'"),
        (b"name: a\nuser: caf\xe9\n", "line 2: not UTF-8 text"),
        (b"name: a\x00b\n", "not valid YAML"),
        (b"{" * 5000, "is nested too deeply"),
        (b"a: " + b"x" * 1_000_001, "has 1000004 bytes; a config has at most"),
        (
            b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 10)) for n in b"bcdefgh"),
            "more than 10000 values, aliases spelled out",
        ),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_a_reason(write: Write, content: bytes, said: str):
    path = write("")
    path.write_bytes(content)
    assert said in complaint(path)


@pytest.mark.parametrize("ask", [plan, distill, calibrate])
@pytest.mark.parametrize("given", [None, 3, LM("openai/small")])
def test_what_is_no_config_is_refused(ask: Callable[[Any], object], given: object):
    with pytest.raises(ConfigError, match=r"a config is needed: the path of its file or a \w*Config, got "):
        ask(given)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    assert "there is no such file" in complaint(tmp_path / "none.yaml")
    assert "cannot be read (Is a directory)" in complaint(tmp_path)
    assert "cannot be read" in complaint("a\0b.yaml")


def test_yes_no_dates_and_clock_times_are_text_and_exponents_are_numbers(write: Write):
    config = load(write(BANKING.replace("temperature: 0", "a: no, b: 2026-01-01, c: 1:30, d: 1e-3, e: 010, f: ~")))
    assert config.program.lm_args == {"a": "no", "b": "2026-01-01", "c": "1:30", "d": 0.001, "e": 10, "f": None,
                                      "max_tokens": 24}  # fmt: skip
    assert load("banking.yaml", ["budget.rollouts=1e3"]).budget.rollouts == 1000


def test_aliases_repeat_a_value(write: Write):
    text = BANKING.replace("lm_args: {temp", "lm_args: &args {temp", 1).replace(
        "lm_args: {max_tokens: 700}", "lm_args: *args"
    )
    reflection = load(write(text)).reflection
    assert reflection is not None
    assert reflection.lm_args == {"temperature": 0, "max_tokens": 24}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("budget.rollouts=60", ("budget", "rollouts"), 60),
        ("budget={calls: 5}", ("budget", "calls"), 5),
        ("program.optimize.0=user", ("program", "optimize", 0), "user"),
        ("data.inputs=[a, b]", ("data", "inputs", 1), "b"),
        ("reflection.lm_args.temperature=0.5", ("reflection", "lm_args", "temperature"), 0.5),
        ("lms.openai/sim-task.api_base=http://x=y", ("lms", "openai/sim-task", "api_base"), "http://x=y"),
        ("lms.local/qwen2.5-coder-0.5b.concurrency=2", ("lms", "local/qwen2.5-coder-0.5b", "concurrency"), 2),
        ("lms.local/qwen2.5-coder-0.5b={retries: 2}", ("lms", "local/qwen2.5-coder-0.5b", "retries"), 2),
        ("lms.a/b-0.5.price={input: 1, output: 2}", ("lms", "a/b-0.5", "price", "input"), Decimal(1)),
        ("program.system='yes: no'", ("program", "system"), "yes: no"),
        ("run.dir=", ("run", "dir"), None),
    ],
)
def test_set_replaces_any_setting(write: Write, override: str, path: tuple[str | int, ...], value: object):
    found: Any = load(write(BANKING), [override])
    for part in path:
        found = getattr(found, str(part)) if hasattr(found, str(part)) else found[part]
    assert found == value


def test_set_builds_a_group_that_the_file_leaves_out(write: Write):
    text = "\n".join(line for line in BANKING.splitlines() if not line.startswith("reflection"))
    config = load(write(text), ["reflection.lm=local/x", "reflection.lm_args.seed=1"])
    assert config.reflection is not None
    assert config.reflection.lm_args == {"seed": 1}


def test_the_last_override_wins(write: Write):
    assert load(write(BANKING), ["budget.rollouts=60", "budget.rollouts=70"]).budget.rollouts == 70


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("budget.rolouts=60", "--set budget.rolouts: budget.rolouts is not a setting. Did you mean budget.rollouts?"),
        ("budget.rollouts", "--set budget.rollouts: must be key=value, such as budget.rollouts=60"),
        ("=60", "--set : must be key=value"),
        ("budget..rollouts=60", "--set budget..rollouts: must be key=value"),
        ("budget.rollouts=[", "--set budget.rollouts: not valid YAML"),
        ("budget.rollouts=.inf", "--set budget.rollouts: .inf is not a finite number"),
        ("budget.rollouts.x=1", "--set budget.rollouts.x: budget.rollouts is 800 and holds no settings"),
        ("program.optimize.1=user", "program.optimize is a list; '1' is none of its places (0 to 0)"),
        ("program.optimize.x=user", "program.optimize is a list; 'x' is none of its places"),
        ("program.system=a: b", "--set program.system: program.system must be text, got a mapping"),
        ("data.test=x.csv", "--set data.test: data takes either path with split, or train, val and test files"),
        ("data={path: 3, inputs: [x]}", "--set data: data.path must be text, got 3"),
        ("lms.a/b-0.5.price.input=1", "--set lms.a/b-0.5.price.input: lms.a/b-0.5.price.output is missing"),
        ("lms.a/b-0.5.concurency=1", "lms.a/b-0.5.concurency is not a setting. Did you mean lms.a/b-0.5.concurrency?"),
    ],
)
def test_a_bad_override_is_told_by_its_key(write: Write, override: str, said: str):
    message = complaint(write(BANKING), override)
    assert message.startswith("--set ")
    assert said in message


def test_a_trouble_in_the_file_is_not_blamed_on_an_override(write: Write):
    text = BANKING.replace("  lm: local/qwen2.5-coder-0.5b\n", "").replace("concurrency", "concurency")
    assert complaint(write(text), "program.user=x", "run.seed=3").splitlines() == [
        "banking.yaml, line 2: program.lm is missing",
        "banking.yaml, line 16: run.concurency is not a setting. Did you mean run.concurrency?",
    ]


@pytest.mark.parametrize("override", ["lms.openai/sim-task.api_key=sk-x1", "lms.openai/sim-task.api_key_env=sk-x1",
                                      "lms.openai/sim-task.api_key_env=[sk-x1]"])  # fmt: skip
def test_a_key_put_in_a_config_by_mistake_is_not_repeated(write: Write, override: str):
    assert "sk-x1" not in complaint(write(BANKING), override)


def test_a_prompt_may_be_chat_messages(write: Write):
    text = BANKING.replace('  system: "Classify the query. Labels: ..."\n  user: "{text}"\n', "")
    override = "program.messages=[{role: system, content: a}, {role: user, content: b, name: question}]"
    program = load(write(text), [override]).program
    assert program.type == "prompt"
    assert program.messages is not None
    assert [message.name for message in program.messages] == [None, "question"]
    assert "program.messages.0.role must be 'system', 'user' or 'assistant', got 'tool'" in complaint(
        "banking.yaml", "program.messages=[{role: tool, content: a}]"
    )


def test_columns_may_be_renamed_and_splits_may_be_shares(write: Write):
    data = load(write(BANKING), ["data.inputs={text: Query text}", "data.split.val=0.2", "data.expected=[a, b]"]).data
    assert data.inputs == {"text": "Query text"}
    assert data.expected == ["a", "b"]
    assert data.split is not None
    assert (data.split.train, data.split.val) == (60, 0.2)


def test_the_fingerprint_holds_what_decides_a_result(write: Write):
    path = write(BANKING)
    before = fingerprint(load(path))
    free = ["name=other", "run.concurrency=64", "run.dir=x", "run.rollout_timeout=5", "lms.openai/sim-task.retries=9",
            "lms.openai/sim-task.api_base=http://x", "lms.other/model.price={input: 1, output: 1}"]  # fmt: skip
    assert fingerprint(load(path, free)) == before
    deciding = ["budget.rollouts=60", "run.seed=1", "metric.type=contains", "data.split.seed=4", "strategy.block=4",
                "program.lm_args.temperature=1", "reflection=null", "lms.openai/sim-task.max_tokens=9"]  # fmt: skip
    for override in deciding:
        assert fingerprint(load(path, [override])) != before


def test_changes_are_told_one_a_line(write: Write):
    path = write(BANKING)
    long = "Classify the query. Labels: ..., and say nothing else, " + "whatever is asked " * 5
    new = fingerprint(load(path, ["budget.rollouts=60", f"program.system='{long}'", "reflection=null",
                                  "program.optimize=[user]", "lms.local/x.max_tokens=9"]))  # fmt: skip
    assert changes(fingerprint(load(path)), new) == [
        "program.system: '...e query. Labels: ...' -> "
        "'...e query. Labels: ..., and say nothing else, whatever is aske...'",
        "program.optimize.0: 'system' -> 'user'",
        "reflection: {'lm': 'local/qwen2.5-coder-1.5b', 'lm_args': {'max_tokens': 700}, 'template'... -> null",
        "budget.rollouts: 800 -> 60",
        "lms.local/x.max_tokens: (none) -> 9",
    ]
    assert changes(new, new) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["prompt", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
leaf_keys = st.sampled_from(sorted({
    "type", "lm", "path", "system", "messages", "optimize", "components", "split", "inputs", "rollouts", "usd", "dir",
    "seed", "price", "timeout", "role", "content", "text", "select", *Config.model_fields,
}))  # fmt: skip
junk = st.dictionaries(leaf_keys | st.text(max_size=8), values, max_size=6)
documents = st.dictionaries(st.sampled_from(sorted(Config.model_fields)) | st.text(max_size=8), values | junk)


@given(document=documents, valid=st.booleans())
def test_no_mapping_of_junk_raises_anything_but_a_config_error(document: dict[str, Any], valid: bool):
    words = {**yaml.safe_load(BANKING), **document} if valid else document
    before = copy.deepcopy(words)
    try:
        config = parse(words)
    except ConfigError as error:
        assert str(error)  # noqa: PT017
    else:
        assert changes(fingerprint(config), fingerprint(config)) == []
    assert repr(words) == repr(before)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(BANKING)), insert=st.text(max_size=6), override=st.text(max_size=12))
def test_no_damaged_file_or_override_raises_anything_but_a_config_error(
    write: Write, cut: int, insert: str, override: str
):
    try:
        path = write(BANKING[:cut] + insert + BANKING[cut:])
    except UnicodeEncodeError:
        return
    for overrides in ([], [override], [f"budget.rollouts={override}"], [f"lms.{override}=3"]):
        try:
            load(path, overrides)
        except ConfigError as error:
            assert str(error)  # noqa: PT017


@given(document=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_any_json_value_survives_as_metric_settings(document: dict[str, Any]):
    words = yaml.safe_load(BANKING)
    words["metric"] = {**document, "type": "exact_match"}
    try:
        config = parse(words)
    except ConfigError as error:
        assert "metric must hold plain values only" in str(error)  # noqa: PT017
    else:
        assert fingerprint(config)["metric"] == words["metric"]
