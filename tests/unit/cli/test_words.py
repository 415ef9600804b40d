"""Words of a command line: a wrong key or value is named in one line, with what is accepted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from stapo_pl import objectives
from stapo_pl.cli.grammar import OverrideError, expand
from stapo_pl.cli.kinds import choices, classes, settings
from stapo_pl.cli.screen import first_screen
from stapo_pl.cli.words import Words
from stapo_pl.core.errors import ConfigError
from support.places import CONFIGS
from support.words import make_parsers, resolved


@pytest.fixture(scope="module")
def parsers():
    return make_parsers()


def said(parsers, script: str, words: list[str]) -> str:
    """What is said of the words; nothing if they are right."""
    parser, grammar, kinds = parsers[script]
    try:
        args = expand(words, CONFIGS, grammar)
        args = Words(parser, grammar, CONFIGS, kinds).check(args)
    except (OverrideError, ConfigError) as error:
        return str(error)
    parser.parse_args(args)  # ends the process if it refuses what was found right
    return ""


UNKNOWN = {
    "lr=1": "model.optimizer.lr",
    "learning_rate=1": "model.optimizer.lr",
    "weight_decay=1": "model.optimizer.weight_decay",
    "seed=1": "seed_everything",
    "epochs=1": "trainer.max_epochs",
    "num_epochs=1": "trainer.max_epochs",
    "max_epochs=3": "trainer.max_epochs",
    "steps=1": "trainer.max_epochs",
    "max_steps=1": "trainer.max_epochs",
    "batch_size=1": "data.prompts_per_rollout",
    "micro_batch_size=1": "trainer.accumulate_grad_batches",
    "temperature=1": "data.temperature",
    "max_tokens=1": "data.max_new_tokens",
    "group=1": "data.group_size",
    "group_size=4": "data.group_size",
    "n=1": "data.group_size",
    "samples=1": "data.group_size",
    "gpus=1": "trainer.devices",
    "devices=1": "trainer.devices",
    "nodes=1": "trainer.num_nodes",
    "dtype=bf16": "trainer.precision",
    "precision=16": "trainer.precision",
    "name=x": "run.name",
    "output_dir=x": "run.logs",
    "resume=last": "ckpt_path",
    "tau_p=0.001": "objective.tau_p",
    "kl=0.1": "objective.kl_coef",
    "gradient_clip_val=1": "trainer.gradient_clip_val",
    "max_time=00:01:00:00": "trainer.max_time",
    "grup_size=4": "data.group_size",
    "data.group_sise=4": "data.group_size",
    "--data.group_sise 4": "data.group_size",
    "model.optimizer.lrr=1": "model.optimizer.lr",
    "model.lr=1": "model.optimizer.lr",
    "trainer.seed=1": "seed_everything",
    "data.max_tokens=1": "data.max_new_tokens",
    "--data.n 4": "data.group_size",
    "trainer.val_check_intervall=1": "trainer.val_check_interval",
    "objective.tau=1": "objective.tau_p",
    "task.step=1": "task.steps",
}


@pytest.mark.parametrize("word", UNKNOWN)
def test_a_key_of_another_name_leads_to_the_right_one(word, parsers):
    error = said(parsers, "fit", word.split())
    first, _, hint = error.partition(": no such key; did you mean ")
    assert first == word.lstrip("-").replace("=", " ").split()[0]
    assert UNKNOWN[word] in hint.rstrip("?").split(" or "), error


WRONG = {
    # numbers, words, and null where it is none
    "trainer.max_epochs=3.5": "trainer.max_epochs=3.5: expected a whole number or null",
    "model.optimizer.lr=fast": "model.optimizer.lr=fast: expected a number",
    "model.optimizer.lr=.nan": "model.optimizer.lr=.nan: expected a number",
    "data.group_size=": "data.group_size=: expected a whole number",
    "data.group_size=null": "data.group_size=null: expected a whole number",
    "objective.tau_p=null": "objective.tau_p=null: expected a number",
    "objective.kl_coef=[1]": "objective.kl_coef=[1]: expected a number",
    "data.validation.samples=x": "data.validation.samples=x: expected a whole number",
    "data.grading.workers=x": "data.grading.workers=x: expected a whole number or null",
    "seed_everything=x": "seed_everything=x: expected a whole number",
    "seed_everything=true": "seed_everything=true: expected a whole number",
    "model.packing=maybe": "model.packing=maybe: expected true or false",
    "model.lr_schedule=cosin": "model.lr_schedule=cosin: expected one of constant, cosine, linear; "
    "did you mean cosine?",
    "objective.scope=al": "objective.scope=al: expected one of rare, all; did you mean all?",
    "objective.tau_p=high": "objective.tau_p=high: expected a number",
    "sampler=vllm sampler.sleep_level=5": "sampler.sleep_level=5: expected one of 0, 1, 2",
    "trainer.limit_val_batches=x": "trainer.limit_val_batches=x: expected a number or null",
    "trainer.deterministic=x": "expected one of warn, true or false or null",
    # lists and mappings
    "model.optimizer.betas=[0.9]": "expected a list of a number and a number",
    "model.optimizer.betas=3": "expected a list of a number and a number",
    "data.benchmarks=3": "data.benchmarks=3: expected a mapping or null",
    "task=gsm8k task.filter=3": "task.filter=3: expected a mapping or null",
    "model.lora=3": "expected a mapping with rank, alpha, dropout, target_modules or null",
    "model.lora.rank=x": "model.lora.rank=x: expected a whole number",
    "model.lora={rank:\u00a0x}": "model.lora.",
    "model.lora.r=8": "model.lora.r: no such key",
    "objective=dapo objective.dynamic_sampling.max_rounds=x": "max_rounds=x: expected a whole numb",
    "benchmark=aime24 benchmark.samples=x": "aime24.samples=x: expected a whole number",
    "run=x": "run=x: run is a group of settings, such as run.name, run.objective",
    # classes
    "model.optimizer=AdamWW": "model.optimizer=AdamWW: no such class; did you mean AdamW?",
    "objective.correction=TokenTSI": "no such class; did you mean TokenTIS?",
    "model.optimizer.momentum=1": "model.optimizer.momentum: no such key",
    "objective=grpo objective.selection=S2TT": "objective.selection=S2TT: no such class; "
    "did you mean S2T?; there are AllRare, HighEntropyRare, RandomRare, S2T, TopEntropy",
    "objective=grpo objective.selection.tau_p=1": "choose what has it first, "
    "as in objective.selection=NAME objective",
    "objective=grpo objective.tau_p=0.1": "objective.selection is null, choose what has it first, "
    "as in objective.selection=NAME objective.tau_p=...; NAME is one of AllRare, HighEntropyRare, "
    "RandomRare, S2T",
    "objective=entropy20 objective.tau_p=0.1": "objective.tau_p: TopEntropy has no such key; "
    "AllRare, HighEntropyRare, RandomRare, S2T have it",
    "objective=grpo objective.selection=[S2TT,TopEntropy]": "objective.selection=S2TT: no such "
    "class; did you mean S2T?",
    "objective=grpo objective.selection=[S2T,null]": "objective.selection=null: expected a class",
    "objective=grpo objective.selection=[S2T": "objective.selection=[S2T: expected a class, one of",
    "objective=grpo objective.selection=[S2T,TopEntropy] objective.tau_p=0.1": "objective.tau_p: "
    "TopEntropy has no such key; AllRare, HighEntropyRare, RandomRare, S2T have it; of the list "
    "objective.selection, a key sets the last item",
    "objective=grpo objective.selection=[] objective.tau_p=0.1": "choose what has it first",
    "objective=grpo objective.selection=[S2T] objective.tau_p=x": "tau_p=x: expected a number",
    'objective.selection=[{"class_path":"S2T","init_args":{"tau_p":"x"}}]': "tau_p=x: expected a",
    "objective=dapo objective.max_rounds=1": "did you mean objective.dynamic_sampling.max_rounds?",
    "objective.advantage=rlo": "objective.advantage=rlo: expected one of grpo, grpo_loo, ",
    "objective=grpo objective.selection=S2T objective.selection.tau_p=x": "tau_p=x: expected a nu",
    "objective=my_module.CISPO": "cannot be imported: ModuleNotFoundError: No module named",
    "objective=torch.nn.Linear": "objective=torch.nn.Linear: is no Objective",
    "sampler.batch_size=8": "sampler is null, choose what has it first, "
    "as in sampler=NAME sampler.batch_size=...",
    "trainer=fsdp trainer.strategy.compute_dtype=bfloat16": "did you mean trainer.precision?",
    "trainer=fsdp trainer.strategy.cpu_offload=x": "cpu_offload=x: expected true or false",
    "trainer.strategy.cpu_offload=true": "trainer.strategy.cpu_offload: choose what has it first",
    "trainer.strategy=null": "trainer.strategy=null: expected",
    "trainer.callbacks=3": "trainer.callbacks=3: expected a list",
    'trainer.callbacks=[{"class_path":"EarlyStopping"}]': "needs trainer.callbacks.monitor=...",
    "trainer.callbacks+=EarlyStopping": "needs trainer.callbacks.monitor=...",
    # files that are none of a group
    "model=Qwen/Qwen3-8B": "a model's folder or hub name is model.path=Qwen/Qwen3-8B",
    "task=rows.parquet": "rows of your own are task.path=rows.parquet",
    "reward=my_rewards.score": "reward=function reward.path=my_rewards.score",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_value_says_what_is_accepted(words, parsers):
    error = said(parsers, "fit", words.split(" "))
    assert WRONG[words] in error
    assert "\n" not in error and "<class" not in error and "Union" not in error


@pytest.mark.parametrize(
    "words, message",
    [
        ("model=Qwen/Qwen3-8B", "model.path"),
        ("temperature=1", "decodings"),
        ("task=aime24", "benchmark"),
        ("samples=3", "benchmark.samples"),
        ("max_tokens=3", "data.max_new_tokens"),
        ("decodings=[[1]]", "each a list of a number and a number"),
        ("samples_per_write=x", "samples_per_write=x: expected a whole number"),
        ("grading.workers=1", "grading.workers: it is called data.grading.workers now"),
        ("--grading.workers=1", "grading.workers: it is called data.grading.workers now"),
        ("verifier.engine=vllm", "did you mean VLLMSampler?"),
        ("sampler=vllm sampler.dtype=x", "expected one of auto, float32, bfloat16, float16"),
    ],
)
def test_so_does_an_evaluation(words, message, parsers):
    assert message in said(parsers, "evaluate", words.split())


@pytest.mark.parametrize(
    "words",
    [
        "objective=stapo objective.tau_p=1e-3 model.optimizer.lr=1e-6",
        "objective.selection=S2T objective.selection.tau_p=0.1 objective=grpo",
        "model.optimizer=SGD model.optimizer.momentum=0.9",
        "model.optimizer=torch.optim.SGD",
        "model.lora.rank=8",
        "model.lora=null",
        "sampler=vllm sampler.engine_args.max_num_seqs=64",
        "trainer=fsdp trainer.strategy.cpu_offload=true trainer.devices=2",
        "trainer.callbacks+=EarlyStopping trainer.callbacks.monitor=reward/mean",
        "trainer.max_time=00:00:10:00 trainer.logger=false trainer.deterministic=warn",
        "data.prompts_per_mini_batch=${data.prompts_per_rollout}",
        "benchmark=aime24,gsm8k benchmark.path=folder reward=math",
        "--model.optimizer.lr 2e-4 --plan objective=stapo",
        "task=gsm8k task.validation_size=null task.filter.level=3 reward=weighted",
        "objective=dapo objective.dynamic_sampling=null objective.overlong_buffer=0",
        "objective=dapo objective.dynamic_sampling.max_rounds=1 objective.advantage=rloo",
        "--model.objective.statistics=current objective.fraction=0 objective.selection=TopEntropy",
    ],
)
def test_what_is_right_passes(words, parsers):
    assert said(parsers, "fit", words.split()) == ""


def test_what_a_file_sets_is_checked_likewise(parsers, tmp_path):
    file = tmp_path / "mine.yaml"
    for text, message in (
        ("data: {group_sise: 4}", "data.group_sise: no such key; did you mean data.group_size?"),
        ("data:\n  validation: {samples: x}", "data.validation.samples=x: expected a whole number"),
        (
            "model: {objective: {init_args: {selection: {init_args: {tau_p: x}}}}}",
            "objective.tau_p=x: expected a number",
        ),
        ("trainer: 3", "trainer is a group of settings"),
        ("- 3", "mine.yaml: expected settings, KEY: VALUE"),
        ("a: [", "mine.yaml: cannot be read as YAML"),
        ("data: {group_size: 4}\nmodel: {lora: {rank: 4}}", ""),
    ):
        file.write_text(text)
        assert message in said(parsers, "fit", [f"--config={file}"])
    assert "cannot be read" in said(parsers, "fit", ["--config=nowhere.yaml"])


@dataclass(kw_only=True)
class Own(objectives.GRPO):
    """An objective of a user's own."""

    selection: objectives.Selection | None = None
    clip_low: float = 0.5


OWN = f"{__name__}.Own"
PLAIN = {"clip_low": 0.5, "clip_high": 0.2, "dual_clip": None, "selection": None, "kl_coef": 0.0}


def test_a_class_that_is_named_takes_nothing_from_the_one_before(parsers, tmp_path):
    """Whether a word names it, a file of a group, or a file of settings."""
    own, tree = tmp_path / "own.yaml", tmp_path / "tree.yaml"
    own.write_text(f"class_path: {OWN}")
    tree.write_text(f"model:\n  objective: {{class_path: {OWN}}}")
    before = ["objective=dapo", "objective.clip_high=0.9", "objective.kl_coef=0.7"]
    for word in (f"objective={OWN}", f"objective={own}", f"--config={tree}"):
        words = [word] if "config" in word else [before[0], word]
        found = resolved(parsers, *words)["model"]["objective"]
        assert found["class_path"] == OWN
        assert {key: found["init_args"][key] for key in PLAIN} == PLAIN, word
    selection = "{class_path: S2T, init_args: {statistics: current}}"
    grpo = f"{{class_path: stapo_pl.objectives.GRPO, init_args: {{selection: {selection}}}}}"
    tree.write_text(f"model:\n  objective: {grpo}")
    found = resolved(parsers, f"--config={tree}", "objective.selection=TopEntropy")
    selection = found["model"]["objective"]["init_args"]["selection"]
    assert selection["init_args"] == {"fraction": 0.2, "statistics": "behavior"}
    optimizer = resolved(parsers, "model.optimizer=Adam")["model"]["optimizer"]["init_args"]
    assert (optimizer["lr"], optimizer["betas"]) == (1e-3, (0.9, 0.999))


def test_short_words_reach_what_stands_deeper(parsers, tmp_path):
    words = ("objective=dapo", "objective.dynamic_sampling=null", "objective.advantage=rloo",
             "objective.tau_p=0.1", "objective.selection=S2T")  # fmt: skip
    found = resolved(parsers, *words)["model"]["objective"]["init_args"]
    rules = {"advantage": "rloo", "dynamic_sampling": None, "overlong_buffer": 0.2}
    assert found["rollout"] == rules | {"overlong_filtering": False}
    assert found["selection"]["init_args"]["tau_p"] == 0.1
    found = resolved(parsers, "objective=stapo_v1", "objective.selection=TopEntropy")
    selection = found["model"]["objective"]["init_args"]["selection"]
    assert selection["init_args"] == {"fraction": 0.2, "statistics": "behavior"}
    file = tmp_path / "old.yaml"
    file.write_text("class_path: stapo_pl.objectives.STAPO\ninit_args: {tau_p: 0.1}")
    assert "objective.tau_p: in a YAML it is" in said(parsers, "fit", [f"objective={file}"])


def test_selections_may_be_a_list(parsers, tmp_path):
    """Every item has the defaults of its own class, whatever stood there before."""

    def chosen(*words):
        found = resolved(parsers, *words)["model"]["objective"]["init_args"]["selection"]
        return [(item["class_path"].rpartition(".")[2], item["init_args"]) for item in found]

    s2t = {"tau_p": 0.002, "sign": "positive", "quantile": 0.75, "scope": "rare"}
    s2t["statistics"] = "current"
    top = {"fraction": 0.2, "statistics": "behavior"}
    both = "objective.selection=[S2T,TopEntropy]"
    for name in ("grpo", "stapo", "stapo_v1", "entropy20"):
        assert chosen(f"objective={name}", both) == [("S2T", s2t), ("TopEntropy", top)]
    given = "objective.selection=[{class_path: S2T, init_args: {tau_p: 0.1}}, AllRare]"
    settings = {"tau_p": 0.002, "sign": "negative", "statistics": "current"}
    assert chosen("objective=grpo", given, "objective.sign=negative") == [
        ("S2T", s2t | {"tau_p": 0.1}), ("AllRare", settings),
    ]  # fmt: skip
    file = tmp_path / "both.yaml"
    item = "{class_path: TopEntropy, init_args: {fraction: 0.5}}"
    file.write_text(f"class_path: stapo_pl.STAPO\ninit_args: {{selection: [{item}, S2T]}}")
    assert chosen(f"objective={file}") == [("TopEntropy", top | {"fraction": 0.5}), ("S2T", s2t)]
    alone = resolved(parsers, f"objective={file}", "objective.selection=TopEntropy")
    assert alone["model"]["objective"]["init_args"]["selection"]["init_args"] == top


def test_one_parse_does_not_change_the_next(parsers):
    """jsonargparse keeps the defaults of classes, and changes them."""
    before = resolved(parsers, "objective=dapo")
    resolved(parsers, "objective=dapo", "objective.dynamic_sampling=null", "objective.kl_coef=1")
    assert resolved(parsers, "objective=dapo") == before


def test_what_is_inside_a_class_may_be_set_before_the_class(parsers):
    words = ("objective=grpo", "objective.selection.tau_p=0.1", "objective.selection=S2T")
    found = resolved(parsers, *words)["model"]["objective"]["init_args"]["selection"]
    assert found["init_args"]["tau_p"] == 0.1


def test_the_last_word_on_a_key_holds(parsers):
    lora = resolved(parsers, "model.lora.rank=4", "model.lora.alpha=3", "model.lora={rank: 8}")
    assert [lora["model"]["lora"][key] for key in ("rank", "alpha")] == [8, 3.0]
    selection = "objective.selection={class_path: S2T, init_args: {tau_p: 0.2}}"
    assert resolved(parsers, "model.lora.rank=4", "model.lora=null")["model"]["lora"] is None
    lora = resolved(parsers, "--model.lora.rank", "4", "model.lora={rank: 8}")["model"]["lora"]
    assert lora["rank"] == 8
    more = [f"trainer.callbacks+={{class_path: {c}}}" for c in ("Timer", "LearningRateMonitor")]
    assert len(resolved(parsers, *more)["trainer"]["callbacks"]) == 2
    stopping = "{class_path: EarlyStopping, init_args: {monitor: policy/loss}}"
    found = resolved(parsers, f"trainer.callbacks=[{stopping}, Timer]")["trainer"]["callbacks"]
    assert [item["init_args"].get("monitor") for item in found] == ["policy/loss", None]
    for words, tau_p in (
        (("objective.tau_p=0.1", selection), 0.2),
        ((selection, "objective.tau_p=0.1"), 0.1),
    ):
        found = resolved(parsers, "objective=grpo", *words)["model"]["objective"]["init_args"]
        assert found["selection"]["init_args"]["tau_p"] == tau_p


def without_words(parser, name: str, seen: set[type]) -> list[str]:
    """Options of a parser, and of the package's classes that they take, without a description."""
    missing = [f"{name} {a.dest}" for a in parser._actions if not (a.help or "").strip()]
    for kind in [getattr(action, "_typehint", int) for action in parser._actions]:
        for cls in {*classes(kind), *choices(kind).values()} - seen:
            if cls.__module__.startswith("stapo_pl"):
                seen.add(cls)
                missing += without_words(settings(cls), cls.__name__, seen)
    return missing


@pytest.mark.parametrize("script", ["fit", "evaluate"])
def test_every_setting_has_words(script, parsers):
    seen: set[type] = set()
    assert without_words(parsers[script][0], script, seen) == []
    assert len(seen) > 10


@pytest.mark.parametrize("script", ["fit", "evaluate"])
def test_the_first_screen_of_help_is_one_screen_of_keys_that_exist(script, parsers):
    grammar = parsers[script][1]
    text = first_screen(["objective=stapo", "--help"], CONFIGS, grammar)
    assert len(text.splitlines()) < 45 and max(map(len, text.splitlines())) <= 100
    assert first_screen(["--help", "all"], CONFIGS, grammar) is None
    assert first_screen(["run.name=help"], CONFIGS, grammar) is None
    assert "--help all" in text and all(f"\n  {name}" in text for name in grammar.groups)
    listed = [line.split()[0] for line in text.partition("Settings")[2].splitlines()[1:16]]
    needs = {"benchmark": "aime24", "data.prompt_format": "chat", "benchmark.path": "x",
             "decodings": "[[1,1]]", "verifier.path": "x", "grade": "x"}  # fmt: skip
    for key in listed:
        words = [f"{key}={needs.get(key, 1)}"]
        words += ["benchmark=aime24"] * key.startswith("benchmark.")
        assert said(parsers, script, words) == "", key
    assert "grading.time_limit" not in text or "(5.0)" in text


def test_help_needs_nothing_heavy():
    code = "import sys, stapo_pl.cli.screen; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
