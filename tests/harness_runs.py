"""Real runs of lm-eval on tiny models, over tasks whose items are written here."""

from __future__ import annotations

import io
import json
import logging
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, Final

from checkpoints import bpe, new_model, quietly, save

CONTEXT: Final = 512
CORPUS: Final = (
    "The capital of France is Paris. The capital of Italy is Rome.",
    "Question: what is the capital of Norway? Answer: Oslo, not Bern or Rome.",
    "Water boils at 100 degrees, and the ice melts at zero degrees.",
    "法国的首都是巴黎。意大利的首都是罗马。挪威的首都是奥斯陆。",
    "问题：水在多少度沸腾？答案：一百度。",
)
PLACES: Final = (
    ("What is the capital of France?", ("Paris", "Rome", "Oslo", "Bern"), 0),
    ("What is the capital of Italy?", ("Oslo", "Rome", "Paris", "Bern"), 1),
    ("What is the capital of Norway?", ("Bern", "Rome", "Oslo", "Paris"), 2),
    ("What is the capital of Switzerland?", ("Oslo", "Rome", "Paris", "Bern"), 3),
    ("法国的首都是什么？", ("巴黎", "罗马", "奥斯陆", "伯尔尼"), 0),
    ("意大利的首都是什么？", ("奥斯陆", "罗马", "巴黎", "伯尔尼"), 1),
    ("水在多少度沸腾？", ("零度", "一百度", "十度", "一千度"), 1),
    ("Where is 奥斯陆?", ("in Norway", "in Italy", "in France", "nowhere at all"), 0),
    ("At how many degrees does water boil?", ("0", "100", "10", "1000"), 1),
    ("How do you say Rome in Chinese?", ("罗马", "巴黎", "Rome", "Roma"), 0),
)
HEAD: Final = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}, train: {data}}}}}
test_split: test
metadata: {{version: 1.0}}
"""
# Name to the rest of a task's file.
TASKS: Final = {
    "places": """output_type: multiple_choice
fewshot_split: train
num_fewshot: 2
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: options
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}, {metric: acc_mutual_info}]
""",
    "letters": """output_type: multiple_choice
tag: lettered
doc_to_text: "{{question}}\\nA. {{options[0]}}\\nB. {{options[1]}}\\nC. {{options[2]}}\\nAnswer: "
doc_to_choice: [A, B, C, D]
doc_to_target: letter
metric_list: [{metric: acc}]
""",
    "no_space": """output_type: multiple_choice
tag: lettered
target_delimiter: ""
doc_to_text: "{{question}}答案"
doc_to_choice: options
doc_to_target: "{{options[answer]}}"
metric_list: [{metric: acc}, {metric: mcc}]
""",
    "no_shots": """output_type: multiple_choice
num_fewshot: 0
doc_to_text: question
doc_to_choice: options
doc_to_target: answer
""",
    "two_right": """output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: options
doc_to_target: right
metric_list: [{metric: acc}]
""",
    "sentences": """output_type: multiple_choice
doc_to_text: answer
doc_to_choice: sentences
doc_to_target: "是"
metric_list: [{metric: acc}]
""",
    "shares": """output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: options
doc_to_target: answer
process_results: !function shares.shares
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "last_word": """output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: " {{options[answer]}}"
metric_list: [{metric: acc}, {metric: perplexity}]
""",
    "written": """output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{options[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match}]
""",
    "whole_text": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: question
metric_list: [{metric: byte_perplexity}]
""",
}
CHOICES: Final = ("places", "letters", "no_space", "two_right", "sentences")
GROUP: Final = (
    "group: mine\ntask: [places, letters, no_space]\naggregate_metric_list: [{metric: acc}]\n"
)
SHARES: Final = """def shares(doc, results):
    return {"acc": 0.25}
"""
# Tasks that come with lm-eval: file, split, and rows of our own with the columns of their data.
GIVEN: Final[dict[str, tuple[str, str, list[dict[str, Any]]]]] = {
    # One text continues several prompts.
    "winogrande": (
        "winogrande/default.yaml",
        "validation",
        [
            {"sentence": f"The {a} did not fit into the {b} because the _ was too big, 对吗。"}
            | {"option1": a, "option2": b, "answer": str(1 + i % 2)}
            for i, (a, b) in enumerate((("boat", "box"), ("moon", "city"), ("hat", "head")))
        ],
    ),
    # Options without a prompt.
    "blimp": (
        "blimp/_template_yaml",
        "train",
        [
            {"sentence_good": f"The {what} is in Oslo.", "sentence_bad": f"The {what} are in Oslo."}
            for what in ("capital", "city", "ice", "water")
        ],
    ),
    # Options that begin with a space, and a target that is text.
    "copa": (
        "super_glue/copa/default.yaml",
        "validation",
        [
            {"premise": f"The {what} was warm.", "question": "cause", "label": i % 2}
            | {"choice1": "The sun shone.", "choice2": "It was night."}
            for i, what in enumerate(("water", "city", "moon"))
        ],
    ),
    # Without acc.
    "cola": (
        "glue/cola/default.yaml",
        "validation",
        [{"sentence": f"{what} people walked.", "label": i % 2} for i, what in enumerate("ABC")],
    ),
    "arithmetic_1dc": (
        "arithmetic/arithmetic_1dc.yaml",
        "validation",
        [
            {"context": f"Question: what is 1 + {i}?\nAnswer:", "completion": f" {1 + i}"}
            for i in range(4)
        ],
    ),
    "crows_pairs": (
        "crows_pairs/crows_pairs_english.yaml",
        "test",
        [{"sent_more": f"The {what}.", "sent_less": "The ice."} for what in ("city", "moon")],
    ),
}
TOKENIZERS: Final = ("byte-level BPE", "SentencePiece", "SentencePiece without BOS", "WordPiece")


def write_tasks(folder: Path) -> Path:
    """Write the tasks, and their items, into a folder."""
    rows = [
        {
            "question": question,
            "options": options,
            "sentences": [f"{question} {option}" for option in options],
            "answer": answer,
            "letter": "ABCD"[answer],
            "right": [answer, 3],
        }
        for question, options, answer in (*PLACES, PLACES[0])
    ]
    data = folder / "places.jsonl"
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(HEAD.format(name=name, data=data) + text, "utf-8")
    (folder / "mine.yaml").write_text(GROUP, "utf-8")
    (folder / "shares.py").write_text(SHARES, "utf-8")
    return folder


def write_given(folder: Path, name: str) -> Path:
    """Write a task that comes with lm-eval, over rows of our own."""
    import lm_eval.tasks

    file, split, rows = GIVEN[name]
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    (folder / f"{name}.yaml").write_text(
        f"include: {Path(lm_eval.tasks.__file__).parent / file}\ntask: {name}\n"
        f"dataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {{data_files: {{{split}: {data}}}}}\ntraining_split: null\n",
        "utf-8",
    )
    return folder


def _sentence_piece(folder: Path, *, start: bool) -> Any:
    import sentencepiece
    from transformers import AutoTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 8),
        model_writer=model,
        vocab_size=380,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=-1,
        minloglevel=2,
    )
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": start}
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | tokens))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return AutoTokenizer.from_pretrained(folder)


def _word_piece() -> Any:
    """Train a tokenizer that puts a token before every text, and one after it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    trainer = trainers.WordPieceTrainer(vocab_size=380, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        pad_token="[PAD]",
    )


def checkpoint(folder: Path, kind: str) -> Path:
    """Make a tiny Llama with a tokenizer of one of ``TOKENIZERS``."""
    with quietly():
        if kind == "byte-level BPE":
            tokenizer = bpe()
        elif kind == "WordPiece":
            tokenizer = _word_piece()
        else:
            tokenizer = _sentence_piece(
                folder.with_name(f"{folder.name}-tokenizer"), start=kind == "SentencePiece"
            )
        tokenizer.model_max_length = CONTEXT
        model = new_model("llama", vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)
    return save(folder, model, tokenizer)


def evaluate(model: Path, tasks: Path, names: tuple[str, ...], out: Path, **how: Any) -> Path:
    """Run lm-eval with its samples logged, as ``lm_eval run --log_samples`` does."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    tracker = EvaluationTracker(output_path=str(out))
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()), quietly():
        results = lm_eval.simple_evaluate(
            model="hf",
            model_args=f"pretrained={model},dtype=float32",
            tasks=list(names),
            batch_size=4,
            device="cpu",
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            bootstrap_iters=0,
            evaluation_tracker=tracker,
            log_samples=True,
            **how,
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for name, rows in samples.items():
            tracker.save_results_samples(task_name=name, samples=rows)
    return out


@cache
def harness_run(folder: Path, kind: str) -> tuple[Path, Path, Path]:
    """Run all tasks with options; returns checkpoint, folder of tasks, and what lm-eval wrote."""
    slug = kind.replace(" ", "-")
    place = folder / slug
    place.mkdir()
    model = checkpoint(place / "model", kind)
    (place / "tasks").mkdir()
    tasks = write_tasks(place / "tasks")
    names = ("mine", *CHOICES[3:])
    return model, tasks, evaluate(model, tasks, names, place / "out")
