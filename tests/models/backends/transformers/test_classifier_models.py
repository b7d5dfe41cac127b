"""Classifiers and reward models in memory score as transformers itself does, one text at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import bpe, chat_tokenizer, edit_json, new_model, quietly, save
from classifiers import NAMES, TEXTS, direct_logits, new_classifier

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from pytest_calibration import Classification, Preference  # noqa: E402
from pytest_calibration.errors import ModelError, UsageError  # noqa: E402
from pytest_calibration.models.adopted import adopted  # noqa: E402
from pytest_calibration.models.backends.transformers.choosing import in_memory  # noqa: E402
from pytest_calibration.models.cache import Cache  # noqa: E402
from pytest_calibration.models.loading import load_model  # noqa: E402

pytestmark = pytest.mark.torch
PAIRS = [(one, other) for one, other in zip(TEXTS[:4], TEXTS[3:], strict=False)]


def softmax(logits: Any) -> Any:
    """Of each row."""
    return torch.tensor(logits).softmax(-1).numpy()


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of texts on disk; its tokenizer ends each text, as that of pairs has to."""
    return save(tmp_path_factory.mktemp("c") / "bert", new_classifier("bert"), bpe(end=True))


@pytest.fixture
def spoiled(bert: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(bert, tmp_path / "mine"))


@pytest.mark.parametrize(
    "family",
    [
        *("bert", "roberta", "deberta", "distilbert", "modernbert"),
        *("gpt_neox", "llama", "gpt2", "qwen2", "bart", "t5"),
    ],
)
def test_ragged_texts_score_as_one_by_one(family: str) -> None:
    """Encoders, decoders and both: what is scored together changes nothing."""
    model, tokenizer = new_classifier(family), bpe(end=True)
    found = in_memory(model, tokenizer).class_probabilities(TEXTS)
    expected = softmax(direct_logits(model, tokenizer, TEXTS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.ptp(found, axis=0).min() > 0.01, "the texts are told apart"


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_no_padding_token_is_needed(family: str, side: str) -> None:
    """A decoder without one refuses batches; its class is that of the last token all the same."""
    model, tokenizer = new_classifier(family, pad_token_id=None), bpe()
    tokenizer.pad_token, tokenizer.padding_side = None, side
    texts = [*TEXTS, *TEXTS[:2]]
    found = in_memory(model, tokenizer).class_probabilities(texts)
    expected = softmax(direct_logits(model, tokenizer, texts))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert model.config.pad_token_id is None


def test_a_text_that_ends_with_the_padding_token_is_read_as_transformers_reads_it() -> None:
    """Where padding and end of text are one token, a decoder reads the token before it."""
    model, tokenizer = new_classifier("llama", pad_token_id=0), bpe(end=True)
    found = in_memory(model, tokenizer).class_probabilities(TEXTS)
    expected = softmax(direct_logits(model, tokenizer, TEXTS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_texts_and_pairs_score_as_the_pipeline_says(bert: Path) -> None:
    """Also from disk; token types tell the two texts of a pair apart."""
    with quietly():
        pipeline = transformers.pipeline("text-classification", str(bert), top_k=None)
        rows = [
            {one["label"]: one["score"] for one in found}
            for found in [
                *pipeline(TEXTS),
                *(pipeline({"text": a, "text_pair": b}) for a, b in PAIRS),
            ]
        ]
    model = load_model(str(bert), device="cpu")
    assert model.class_names == NAMES
    assert not model.multi_label
    expected = [[row[name] for name in NAMES] for row in rows]
    found = model.class_probabilities([*TEXTS, *PAIRS])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_several_labels_score_as_the_pipeline_says(spoiled: Path) -> None:
    """Each class by itself, where the configuration says so."""
    edit_json(spoiled / "config.json", problem_type="multi_label_classification")
    with quietly():
        pipeline = transformers.pipeline("text-classification", str(spoiled), top_k=None)
        rows = [{one["label"]: one["score"] for one in found} for found in pipeline(TEXTS)]
    model = load_model(str(spoiled), device="cpu")
    assert model.multi_label
    expected = [[row[name] for name in NAMES] for row in rows]
    np.testing.assert_allclose(model.class_probabilities(TEXTS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "gpt_neox", "llama"])
def test_a_word_has_the_probabilities_of_its_first_token(family: str) -> None:
    """As the token-classification pipeline and the field's scripts take it."""
    model, tokenizer = new_classifier(family, "TokenClassification"), bpe(end=True)
    rows = [text.split() for text in TEXTS]
    found = in_memory(model, tokenizer).token_class_probabilities(rows)
    for words, table in zip(rows, found, strict=True):
        inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        owners = inputs.word_ids()
        model.eval()
        with torch.no_grad():
            logits = model(inputs["input_ids"]).logits[0]
        first = [owners.index(i) for i in range(len(words))]
        expected = logits.softmax(-1)[first].numpy()
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-6)


def test_rewards_are_the_one_output(tmp_path: Path) -> None:
    """Of a head with one output; the logits as they are."""
    model, tokenizer = new_classifier("llama", names=("LABEL_0",)), bpe()
    path = save(tmp_path / "rm", model, tokenizer)
    expected = direct_logits(model, tokenizer, TEXTS)[:, 0]
    rm = load_model(str(path), device="cpu")
    np.testing.assert_allclose(rm.rewards(TEXTS), expected, rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match=r"rm: its head gives one number .* kind preference asks"):
        rm.class_probabilities(TEXTS)


def test_the_head_is_exact_in_half_precision() -> None:
    """Logits are computed in float32 from what a model in bfloat16 has computed."""
    model, tokenizer = new_classifier("llama").to(torch.bfloat16), bpe()
    one, weight = in_memory(model, tokenizer), model.score.weight.detach().float().T
    seen: list[Any] = []
    with model.score.register_forward_hook(lambda _, given, __: seen.append(given[0].float())):
        for text in TEXTS:
            found = one.class_logits([text])[0]
            np.testing.assert_allclose(found, (seen[-1][0, -1] @ weight).numpy(), rtol=0, atol=1e-6)
    plain = direct_logits(model, tokenizer, TEXTS)
    assert np.abs(plain - one.class_logits(TEXTS)).max() > 1e-4, "of three digits"
    assert not model.score._forward_hooks


def test_a_model_in_training_keeps_its_mode() -> None:
    """It is scored without dropout, the same twice, and goes on as before."""
    model = new_classifier("bert").train()
    one = in_memory(model, bpe(end=True))
    first = one.class_probabilities(TEXTS)
    np.testing.assert_array_equal(first, one.class_probabilities(TEXTS))
    assert one.class_probabilities([]).shape == (0, 3)
    assert model.training


def test_little_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the tokens at a time, with a note; and no text at a time is an error."""
    one = in_memory(new_classifier("bert"), bpe(end=True))
    plain, whole = one._pass, one.class_probabilities(TEXTS * 3)

    def scarce(rows: Any) -> Any:
        if len(rows) > 1:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return plain(rows)

    monkeypatch.setattr(one, "_pass", scarce)
    np.testing.assert_allclose(one.class_probabilities(TEXTS * 3), whole, rtol=0, atol=1e-6)
    assert one.notes == ["it ran out of memory, and went on with fewer tokens at a time"]
    monkeypatch.setattr(one, "_pass", lambda rows: scarce([*rows, *rows]))
    with pytest.raises(ModelError, match="model: out of memory with a text of 2"):
        one.class_probabilities(TEXTS)


# --- long texts ----------------------------------------------------------------------------------


def test_long_texts_are_an_error_with_their_number(bert: Path) -> None:
    """None is cut in silence."""
    long = " ".join(["moon"] * 60)
    model = load_model(str(bert), device="cpu")
    with pytest.raises(
        ModelError,
        match=r"bert: 2 of 3 texts are longer than the 48 tokens it reads \(first: 'moon moon .*, "
        r"\d+ tokens\); shorten or leave them out, or say truncate: true in the probe",
    ):
        model.class_probabilities(["ice", long, (long, "ice")])


def test_cut_texts_score_as_transformers_cuts_them(bert: Path) -> None:
    """The end of a text, or of the longer of a pair, or of the first of a pair."""
    long = " ".join(["moon"] * 60)
    model, texts = load_model(str(bert), device="cpu"), ["ice", long, (long, "ice"), ("ice", long)]
    assert model.truncated(texts).tolist() == [False, True, True, True]
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(bert)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    for how, some in (("longest_first", texts), ("only_first", texts[:3])):
        expected = softmax(direct_logits(plain, tokenizer, some, truncation=how))
        found = model.class_probabilities(some, truncate=how)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("present", ["classifier", "bert"])
def test_a_head_that_is_missing_is_an_error(tmp_path: Path, present: str) -> None:
    """A fresh head would give random classes; what is missing is named."""
    from safetensors.torch import load_file, save_file

    path = save(tmp_path / "mine", new_classifier("bert"), bpe(end=True))
    file = path / "model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if k.startswith(present)}
    save_file(kept, file, metadata={"format": "pt"})
    first = "classifier.bias" if present == "bert" else "bert.embeddings"
    with pytest.raises(ModelError, match=rf"lacks \d+ weights \(first: {first}.*random numbers"):
        load_model(str(path), device="cpu").class_probabilities(TEXTS)


def test_a_language_model_called_a_classifier_lacks_its_head(tmp_path: Path) -> None:
    """The head of a language model is no head of a classifier."""
    path = save(tmp_path / "mine", new_model("llama"), bpe())
    edit_json(path / "config.json", architectures=["LlamaForSequenceClassification"])
    with pytest.raises(ModelError, match=r"lacks 1 weights \(first: score.weight\)"):
        load_model(str(path), device="cpu").class_probabilities(TEXTS)


def test_regression_is_refused(spoiled: Path) -> None:
    """Its numbers are no probabilities."""
    edit_json(spoiled / "config.json", problem_type="regression")
    with pytest.raises(ModelError, match=r"mine: its config.json has problem_type: regression"):
        load_model(str(spoiled), device="cpu").class_probabilities(TEXTS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"0": "a", "1": "b", "2": "a"}, "gives several classes the name 'a'"),
        (
            {"0": "a", "1": "b", "3": "c"},
            r"must name the classes 0 to 2, got \{0: 'a', 1: 'b', 3: ",
        ),
        ({"0": "a", "1": "b"}, "3 in the file and|in the file and .* in the model"),
    ],
)
def test_names_that_fit_no_head_are_refused(
    spoiled: Path, names: dict[str, str], message: str
) -> None:
    """Each class has a name of its own, and each output a class."""
    edit_json(
        spoiled / "config.json", id2label=names, label2id={n: int(i) for i, n in names.items()}
    )
    with pytest.raises(ModelError, match=message):
        load_model(str(spoiled), device="cpu").class_probabilities(TEXTS)


@pytest.mark.parametrize("names", [{"first": "a"}, ["a", "b", "c"], {None: "a"}])
def test_names_in_memory_have_numbers(names: Any) -> None:
    """A configuration can be given anything there."""
    model = new_classifier("bert")
    model.config.id2label = names
    with pytest.raises(ModelError, match=r"model: id2label .* must name the classes 0 to"):
        in_memory(model, bpe())


def test_a_body_without_a_head_is_named() -> None:
    """What AutoModel loads gives no numbers for anything."""
    for body in (new_classifier("bert").bert, new_model("llama").model):
        with pytest.raises(ModelError, match=f"model: is a {type(body).__name__}, no causal"):
            in_memory(body, bpe())


def test_names_may_come_from_the_settings(bert: Path) -> None:
    """Where a checkpoint was saved with LABEL_0 and LABEL_1."""
    arguments: dict[str, Any] = {"id2label": {0: "a", 1: "b", 2: "c"}}
    assert load_model(str(bert), device="cpu", arguments=arguments).class_names == ("a", "b", "c")
    arguments = {"problem_type": "multi_label_classification"}
    assert load_model(str(bert), device="cpu", arguments=arguments).multi_label


def test_a_word_without_token_is_named() -> None:
    """It has no probabilities; none is left out in silence."""
    tokenizer = bpe()
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("#", "")
    one = in_memory(new_classifier("bert", "TokenClassification"), tokenizer)
    with pytest.raises(ModelError, match="model: word 1 of 'ice # melts', '#', gives no token"):
        one.token_class_probabilities([["ice", "#", "melts"]])


@pytest.mark.parametrize(
    ("head", "method", "message"),
    [
        ("SequenceClassification", "next_token", "is a classifier, .* asks a language model"),
        ("SequenceClassification", "token_class_probabilities", "asks a classifier of tokens"),
        ("TokenClassification", "class_probabilities", "is a classifier of tokens, .* rows of tok"),
    ],
)
def test_another_kind_of_probe_is_one_sentence(
    tmp_path: Path, head: str, method: str, message: str
) -> None:
    """It says what the model is, and which probe to write."""
    path = save(tmp_path / "mine", new_classifier("bert", head), bpe(end=True))
    with pytest.raises(ModelError, match=rf"mine: .*{message}"):
        getattr(load_model(str(path), device="cpu"), method)(["ice"])


# --- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt_neox", "bert"])
def test_an_adapter_brings_its_head(tmp_path: Path, family: str) -> None:
    """On a language model, with as many classes as it was trained with; names by settings."""
    peft = pytest.importorskip("peft")
    if family == "bert":
        base = new_classifier("bert")
        base.config.architectures = ["BertForMaskedLM"]
        target = ["query", "value"]
        body = transformers.BertForMaskedLM(base.config)
    else:
        body, target = new_model("gpt_neox"), ["query_key_value"]
    path = save(tmp_path / "base", body, bpe(end=True))
    loader = transformers.AutoModelForSequenceClassification
    torch.manual_seed(1)
    with quietly():
        model = peft.get_peft_model(
            loader.from_pretrained(path, num_labels=4, pad_token_id=1),
            peft.LoraConfig(task_type="SEQ_CLS", target_modules=target, init_lora_weights=False),
        )
        model.save_pretrained(tmp_path / "adapter")
    expected = softmax(direct_logits(model, bpe(end=True), TEXTS))
    if family == "bert":
        # The pooler is no part of a masked language model, and no part of the adapter.
        with pytest.raises(ModelError, match=r"lacks 2 weights \(first: bert.pooler.dense.bias"):
            load_model(str(tmp_path / "adapter"), device="cpu").class_probabilities(TEXTS)
        return
    found = load_model(str(tmp_path / "adapter"), device="cpu")
    np.testing.assert_allclose(found.class_probabilities(TEXTS), expected, rtol=0, atol=1e-6)
    assert found.class_names == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    assert found.notes == ()
    named = {"id2label": dict(enumerate("abcd"))}
    found = load_model(str(tmp_path / "adapter"), device="cpu", arguments=named)
    np.testing.assert_allclose(found.class_probabilities(TEXTS), expected, rtol=0, atol=1e-6)
    assert found.class_names == ("a", "b", "c", "d")


def test_an_adapter_on_a_classifier_of_tokens(tmp_path: Path) -> None:
    """Its names are those of the classifier that it lies on."""
    peft = pytest.importorskip("peft")
    path = save(tmp_path / "base", new_classifier("bert", "TokenClassification"), bpe(end=True))
    torch.manual_seed(1)
    with quietly():
        loader = transformers.AutoModelForTokenClassification
        model = peft.get_peft_model(
            loader.from_pretrained(path),
            peft.LoraConfig(
                task_type="TOKEN_CLS", target_modules=["query"], init_lora_weights=False
            ),
        )
        model.save_pretrained(tmp_path / "adapter")
    one, other = (load_model(str(tmp_path / name), device="cpu") for name in ("adapter", "base"))
    words = [text.split() for text in TEXTS]
    expected = in_memory(model, bpe(end=True)).token_class_probabilities(words)
    found = one.token_class_probabilities(words)
    np.testing.assert_allclose(np.vstack(found), np.vstack(expected), rtol=0, atol=1e-6)
    assert np.abs(np.vstack(found) - np.vstack(other.token_class_probabilities(words))).max() > 0.01
    assert one.class_names == NAMES


# --- probes against transformers' own programs ---------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_hypotheses_score_as_the_zero_shot_pipeline_says(tmp_path: Path, several: bool) -> None:
    """One class of all, or each by itself; long texts are cut where it cuts them."""
    conclusions = ("contradiction", "neutral", "entailment")
    model, tokenizer = new_classifier("bert", names=conclusions).eval(), bpe(end=True)
    names, template = ["moon", "people", "water and ice"], "The city is {}."
    texts = [*TEXTS[:3], " ".join(["moon"] * 60)]
    with quietly():
        pipeline = transformers.pipeline(
            "zero-shot-classification", model=model, tokenizer=tokenizer
        )
        said = pipeline(texts, names, hypothesis_template=template, multi_label=several)
    scores = [dict(zip(one["labels"], one["scores"], strict=True)) for one in said]
    labels: list[Any] = [["moon"], ["moon", "people"], [], names] if several else ["moon"] * 4
    path = tmp_path / "rows.jsonl"
    content = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(map(json.dumps, content)))
    probe = Classification("z", path=path, classes=names, hypothesis=template, truncate=True)
    found = probe.run(adopted(pipeline, dict, None))
    assert found.probabilities is not None
    table = found.probabilities[:, 1].reshape(4, 3) if several else found.probabilities
    expected = [[one[name] for name in sorted(names)] for one in scores]
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-6)
    assert found.notes == (
        "longer than what the model reads, and cut: 3 of 12 pairs of a text and a hypothesis.",
    )


def test_rewards_of_conversations_are_those_of_the_template(tmp_path: Path) -> None:
    """The tokens of ``apply_chat_template``, nothing before or after them."""
    tokenizer = chat_tokenizer()
    model = new_classifier("llama", names=("reward",), vocab_size=len(tokenizer))
    model.config.max_position_embeddings = tokenizer.model_max_length = 256
    user = {"role": "user", "content": "Is ice cold?"}
    answers = [{"role": "assistant", "content": text} for text in ("Yes, it is.", "No.")]
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": [user], "chosen": answers[:1], "rejected": answers[1:]}))
    model.eval()
    rewards = []
    for answer in answers:
        ids = tokenizer.apply_chat_template(
            [user, answer], tokenize=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.no_grad():
            rewards.append(float(model(ids).logits[0, 0]))
    found = Preference("p", path=path).run(in_memory(model, tokenizer))
    difference = rewards[0] - rewards[1]
    assert abs(difference) > 1e-3
    expected = 1 / (1 + np.exp(-abs(difference)))
    np.testing.assert_allclose(found.confidence, [expected], rtol=0, atol=1e-6)
    assert found.correct.tolist() == [difference > 0]


def test_a_classifier_is_answered_from_the_cache(bert: Path, tmp_path: Path) -> None:
    """Names, probabilities and what is cut: a second run loads nothing and says the same."""
    path = tmp_path / "rows.jsonl"
    rows = [{"text": text, "label": i % 3} for i, text in enumerate([*TEXTS, "moon " * 60])]
    path.write_text("\n".join(map(json.dumps, rows)))
    probe = Classification("c", path=path, truncate=True)
    # A name with a slash is no path.
    named = {"id2label": {0: "a", 1: "b", 2: "Sci/Tech"}}
    first, second = (
        load_model(str(bert), device="cpu", cache=Cache(tmp_path / "cache"), arguments=named)
        for _ in range(2)
    )
    one, other = probe.run(first), probe.run(second)
    assert (first.use.loads, second.use.loads) == (1, 0)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert (one.signature, one.notes) == (other.signature, other.notes)
    assert one.notes == ("longer than what the model reads, and cut: 1 of 8 texts.",)


def test_a_pipeline_with_a_function_of_its_own_is_refused(bert: Path) -> None:
    """It would say other probabilities than its model."""
    with quietly():
        pipeline = transformers.pipeline(
            "text-classification", str(bert), function_to_apply="sigmoid"
        )
    with pytest.raises(
        UsageError, match=r"function_to_apply=.*sigmoid.*leave function_to_apply ou"
    ):
        adopted(pipeline, dict, None)


def test_a_pipeline_cuts_texts_where_it_says(bert: Path) -> None:
    """``truncation`` with ``max_length`` scores as the pipeline does; without it no text is cut."""
    with quietly():
        pipeline = transformers.pipeline(
            "text-classification", str(bert), top_k=None, truncation=True, max_length=5
        )
        model = adopted(pipeline, dict, None)
        said = [{one["label"]: one["score"] for one in found} for found in pipeline(TEXTS)]
        uncut = transformers.pipeline("text-classification", str(bert), max_length=5)
        other = transformers.pipeline("text-classification", str(bert), add_special_tokens=False)
    found = model.class_probabilities(TEXTS, truncate="longest_first")
    expected = [[row[name] for name in model.class_names] for row in said]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert model.truncated(TEXTS).any()
    assert not adopted(uncut, dict, None).truncated(TEXTS).all()
    with pytest.raises(ModelError, match="longer than the 5 tokens it reads"):
        model.class_probabilities(TEXTS)
    with pytest.raises(UsageError, match=r"add_special_tokens=False.*leave add_special_tokens out"):
        adopted(other, dict, None)


@pytest.mark.parametrize("moved", ["rows", "columns", "bias"])
def test_weights_that_changed_places_are_another_model(bert: Path, moved: str) -> None:
    """The sum of all of them is the same, and the answers are not."""
    with quietly():
        pipeline = transformers.pipeline("text-classification", str(bert))
    model, head = adopted(pipeline, dict, None), pipeline.model.classifier
    with torch.no_grad():
        head.bias.copy_(torch.arange(len(head.bias)))
        before = model.fingerprint
        assert model.fingerprint == before
        changed = head.bias if moved == "bias" else head.weight
        changed.copy_(changed.flip(1 if moved == "columns" else 0))
    assert model.fingerprint != before
