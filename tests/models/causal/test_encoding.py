"""Prompts that are tokenised in two give the tokens of the whole, whatever tokenises them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from checkpoints import CORPUS, END, VOCABULARY, bpe
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from pytest_calibration.models.backends.transformers.transformers_model import TransformersModel
from pytest_calibration.models.causal import encoding as module
from pytest_calibration.models.causal.encoding import TAIL, _cut

pytestmark = pytest.mark.torch


def metaspace(*, legacy: bool = False, scheme: str = "always", start: bool = False) -> Any:
    """Train a tokenizer like SentencePiece's; the legacy kind has no rule for words at all.

    It may put a token before every text.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if legacy:
        tokenizer = Tokenizer(models.BPE(byte_fallback=False, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        trainer: Any = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=["<unk>", END], show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=["<unk>", END], unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END} $A", special_tokens=[(END, tokenizer.token_to_id(END))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token=END)


def word_piece() -> Any:
    """Train a tokenizer like BERT's, with a token before and after every text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def greedy_words() -> Any:
    """Return a tokenizer with tokens of several words, which no cut may tear."""
    made = bpe()
    made.add_tokens(["the city of Oslo is", "degrees, and", "capital of"])
    return made


KINDS = {
    "byte level": bpe,
    "qwen2": lambda: bpe("qwen2"),
    "start": lambda: bpe(start=True),
    "start and end": lambda: bpe(start=True, end=True),
    "unigram": metaspace,
    "legacy": lambda: metaspace(legacy=True),
    "unigram, start": lambda: metaspace(start=True),
    "unigram, first only, start": lambda: metaspace(scheme="first", start=True),
    "legacy, start": lambda: metaspace(legacy=True, start=True),
    "word piece": word_piece,
    "words": greedy_words,
}


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.characters = 0

    def __call__(self, texts: list[str], **named: Any) -> Any:
        """Count, and tokenise."""
        self.characters += sum(map(len, texts))
        return self.tokenizer(texts, **named)


@cache
def engine(kind: str) -> TransformersModel:
    """Return the part of an engine that tokenises."""
    made = TransformersModel.__new__(TransformersModel)
    tokenizer = KINDS[kind]()
    made.name = kind
    made.tokenizer = Counting(tokenizer)
    made._opening, made._closing = module._added_tokens(tokenizer)
    made._opening_text = module._text_of_opening(tokenizer, made._opening)
    return made


def whole(kind: str, text: str) -> list[int]:
    """Return the tokens of a text, all tokenised at once, without what ends every text."""
    made = engine(kind)
    ids = made.tokenizer.tokenizer(text)["input_ids"]
    return list(ids[: len(ids) - made._closing])


PIECES = st.one_of(
    st.sampled_from(
        [
            *" ".join(CORPUS).split(" "),
            *("\n", "\n\n", "  ", "\t", " \n ", "\u00a0", "\u3000", "\r\n", "\x1c", ""),
            *(
                "Question:",
                "A.",
                "(B)",
                "don't",
                "it's",
                "3.14",
                "1969",
                "12345",
                "_",
                "__a",
                "x_y",
            ),
            *("naïve", "e\u0301té", "日本語", "🎉🎉", "🇫🇷", "Ω²", "½", "ſ", "\u200d", END),
            *("the city of Oslo is", "degrees, and", "capital of"),
        ]
    ),
    st.text(max_size=8),
)
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from([" ", " ", " ", "", "\n"])), max_size=60).map(
    lambda parts: "".join(piece + gap for piece, gap in parts)
)
OPTIONS = st.lists(
    st.one_of(TEXTS.map(lambda t: t[:30]), PIECES.map(lambda p: f" {p}")), max_size=4
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100)
@given(
    prompts=st.lists(
        st.tuples(TEXTS, st.sampled_from(["", "\nAnswer:", " is", " ", "." * 50, " " * 60])),
        min_size=1,
        max_size=3,
    ),
    options=OPTIONS,
)
@example(prompts=[(CORPUS[3] * 3, "")], options=[" Oslo", " is the city of Oslo is", ""])
@example(
    prompts=[("The ice melts " + " ".join(CORPUS) + " 100 degrees", "")], options=[", and", "!"]
)
def test_the_tokens_are_those_of_the_whole(
    kind: str, prompts: list[tuple[str, str]], options: list[str]
) -> None:
    """Prompt, and prompt with each option: the same tokens as without any cut."""
    texts = [f"Q {text}{end}" for text, end in prompts]
    heads, wholes = engine(kind)._encode_options(texts, [options] * len(texts))
    assert heads == [whole(kind, text) for text in texts]
    assert wholes == [[whole(kind, text + option) for option in options] for text in texts]


@given(text=TEXTS)
def test_a_cut_stands_between_a_word_and_a_space(text: str) -> None:
    """It is within the last characters, far enough from the end, and in no short prompt."""
    cut = _cut(text)
    if cut:
        assert text[cut - 1].isalnum()
        assert text[cut].isspace()
        assert TAIL[0] <= len(text) - cut <= TAIL[1]
    assert len(text) >= 2 * TAIL[0] or cut == 0
    words = "word " * 100
    assert 0 < len(words) - _cut(words) < TAIL[0] + 10, "the last place that will do"
    assert _cut("one two " + "." * (TAIL[1] - 9)) == 7
    assert _cut("one two" + " " + "." * TAIL[1]) == 0, "nor is much tokenised for every option"


@pytest.mark.parametrize("kind", ["byte level", "qwen2", "start and end", "unigram", "word piece"])
def test_long_prompts_are_tokenised_once(kind: str) -> None:
    """Beside each prompt with its first option only some ends of prompts are tokenised."""
    made = engine(kind)
    prompts = [" ".join(CORPUS * 10) + f" The capital of {x} is" for x in ("France", "Italy")]
    options = [" Paris", " Rome", " Oslo", " Bern"]
    made.tokenizer.characters = 0
    made._encode_options(prompts, [options] * 2)
    once = sum(len(prompt) + len(options[0]) for prompt in prompts)
    assert min(map(len, prompts)) > 2000
    assert once <= made.tokenizer.characters < once + 2 * 5 * 60


OPENINGS = {
    "byte level": "",
    "qwen2": "",
    "start": END,
    "start and end": END,
    "unigram": "",
    "legacy": "",
    "unigram, start": END,
    "unigram, first only, start": END,
    "legacy, start": END,
    "word piece": "[CLS]",
    "words": "",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_begins_with_the_first_token_has_it_once(kind: str) -> None:
    """What the tokenizer puts before every text is read once, though the text begins with it."""
    made = engine(kind)
    opening = OPENINGS[kind]
    assert made._opening_text == opening
    text = f"{' '.join(CORPUS)} The capital of Italy is"
    expected = whole(kind, text)
    for times in range(3 * bool(opening)):
        assert made._encode([opening * times + text]) == [expected]
        heads, wholes = made._encode_options([opening * times + text], [[" Rome", " Oslo"]])
        assert heads == [expected]
        assert wholes == [[whole(kind, f"{text} {city}") for city in ("Rome", "Oslo")]]
    if not opening:
        assert made._encode([f"{END}{text}"]) == [whole(kind, f"{END}{text}")], "no other has it"


def test_only_what_is_asked_is_tokenised() -> None:
    """A prompt without options is tokenised by itself; none at all, not at all."""
    made = engine("byte level")
    assert made._encode_options([], []) == ([], [])
    long = " ".join(CORPUS)
    assert made._encode_options([long], [[]]) == ([whole("byte level", long)], [[]])


def test_it_is_the_engine_that_is_tested() -> None:
    """The tokens above reach the scorer: one row for single-token options, one for each longer."""
    made: Any = engine("byte level")
    prompt = " ".join(CORPUS) + " The capital of France"
    options = [" the", " is", " not in Norway"]
    made.max_tokens = 1 << 20
    seen: list[Any] = []

    def score(rows: Any) -> Any:
        seen.extend(rows)
        raise InterruptedError

    made._score = score
    with pytest.raises(InterruptedError):
        made.option_logprobs([prompt], [options])
    head = whole("byte level", prompt)
    tails = [whole("byte level", prompt + option)[len(head) :] for option in options]
    single = [tail for tail in tails if len(tail) == 1]
    assert 0 < len(single) < 3
    expected = {tuple(head + tail[:-1]): 0 for tail in tails}
    assert {tuple(row.ids) for row in seen} == set(expected)
    asked = [
        (row.ids[: at + 1], target)
        for row in seen
        for at, target in zip(row.positions, row.targets, strict=True)
    ]
    assert sorted(asked) == sorted(
        (head + tail[:k], tail[k]) for tail in tails for k in range(len(tail))
    )
