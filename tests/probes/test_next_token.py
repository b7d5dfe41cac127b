"""The next-token probe: positions, documents, token digests."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeModel
from numpy.typing import NDArray

from pytest_calibration import NextToken
from pytest_calibration.errors import ProbeError, UsageError
from pytest_calibration.models.protocols import Choose, NextTokenScores

TEXTS = ["one two three four five", "six seven eight", "nine ten eleven twelve thirteen fourteen"]


def rows(folder: Path, texts: Sequence[str | dict[str, str]]) -> Path:
    """Write rows."""
    path = folder / "texts.jsonl"
    content = [{"text": t} if isinstance(t, str) else t for t in texts]
    path.write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three documents of 5, 3 and 6 words: 4, 2 and 5 predicted ones."""
    return rows(tmp_path, TEXTS)


class OtherTokens(FakeModel):
    """Joins the words that this pattern matches to one token."""

    def __init__(self, pattern: str, ids: int = 0) -> None:
        super().__init__("other")
        self.pattern = pattern
        self.ids = ids

    def next_token(
        self, texts: Sequence[str], *, choose: Choose | None = None
    ) -> list[NextTokenScores]:
        """Score the tokens of the pattern, all with equal belief."""
        out = []
        for i, text in enumerate(texts):
            spans: NDArray[np.int64] = np.array(
                [m.span() for m in re.finditer(self.pattern, text)], dtype=np.int64
            ).reshape(-1, 2)[1:]
            if choose is not None:
                spans = spans[choose(i, spans)]
            n = len(spans)
            out.append(
                NextTokenScores(
                    spans, np.full(n, 0.5), np.ones(n, bool), np.zeros(n), np.full(n, self.ids)
                )
            )
        return out


def test_every_position_can_be_scored(path: Path) -> None:
    """``all`` scores every word but the first of each document, in order."""
    predictions = NextToken(path=path, positions="all").run(FakeModel())
    assert (predictions.n, predictions.unit) == (4 + 2 + 5, "token")


@pytest.mark.parametrize(
    ("positions", "expected"), [(1, [1, 1, 1]), (3, [3, 2, 3]), (9, [4, 2, 5])]
)
def test_a_document_gives_at_most_so_many_positions(
    path: Path, positions: int, expected: list[int]
) -> None:
    """Each document contributes the asked number, or all it has."""
    predictions = NextToken(path=path, positions=positions).run(FakeModel())
    assert predictions.groups is not None
    counts = [int((predictions.groups == f"document-{i}").sum()) for i in range(3)]
    assert counts == expected


def test_the_sample_is_the_same_every_time_and_grows_with_the_number(path: Path) -> None:
    """Fewer positions are a subset of more; sampled scores are those of a full run."""

    def scored(positions: int | str) -> dict[int, float]:
        p = NextToken(path=path, positions=positions).run(FakeModel())
        return dict(zip(p.item_ids.tolist(), p.confidence.tolist(), strict=True))

    everything = scored("all")
    for positions in (1, 2, 3, 4):
        assert scored(positions).items() <= scored(positions + 1).items() <= everything.items()
        assert scored(positions) == scored(positions)


def test_documents_are_the_groups(path: Path) -> None:
    """Tokens of one document stand or fall together; a row's own group goes before."""
    predictions = NextToken(path=path).run(FakeModel())
    assert predictions.n_clusters == 3
    assert predictions.groups is not None
    assert predictions.groups.tolist() == [
        f"document-{i}" for i in (0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2)
    ]
    grouped = [{"text": text, "group": "g"} for text in TEXTS[:2]] + [{"text": TEXTS[2]}]
    regrouped = NextToken(path=rows(path.parent, grouped)).run(FakeModel())
    assert regrouped.n_clusters == 2


def test_the_built_in_probe_samples_every_passage() -> None:
    """50 positions of every packaged passage, and each passage a group."""
    probe = NextToken()
    predictions = probe.run(FakeModel())
    assert probe.size >= 60
    assert predictions.n == 50 * probe.size
    assert predictions.n_clusters == probe.size


def test_a_token_is_named_by_its_characters_not_by_its_index(path: Path) -> None:
    """Where two tokenizers have the same token at the same place, it has the same id in both."""
    words = NextToken(path=path, positions="all").run(OtherTokens(r" ?\S+"))
    pairs = NextToken(path=path, positions="all").run(OtherTokens(r"one two| ?\S+"))
    assert pairs.n == words.n - 1
    assert set(pairs.item_ids.tolist()) < set(words.item_ids.tolist())


def test_tokens_that_share_their_characters_are_several_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A character of several byte tokens gives several positions, each with its id."""
    spans = np.array([[1, 2], [1, 2], [1, 2]])

    def next_token(texts: Sequence[str], *, choose: Choose) -> list[NextTokenScores]:
        index = choose(0, spans)
        half = np.full(len(index), 0.5)
        return [NextTokenScores(spans[index], half, half > 0, np.log(half), index)]

    model = FakeModel()
    monkeypatch.setattr(model, "next_token", next_token)
    predictions = NextToken(path=rows(tmp_path, ["a百"])).run(model)
    assert len(set(predictions.item_ids.tolist())) == 3


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(OtherTokens(r"one two| ?\S+"), id="other-boundaries"),
        pytest.param(OtherTokens(r" ?\S+", ids=7), id="other-ids"),
        pytest.param(OtherTokens(r"\S+ ?"), id="same-ids-at-other-places"),
    ],
)
def test_another_tokenizer_asks_another_question(path: Path, model: FakeModel) -> None:
    """The digest of the encoded tokens is a hard field: two tokenizers are not comparable."""
    here = NextToken(path=path).run(OtherTokens(r" ?\S+"))
    there = NextToken(path=path).run(model)
    assert [f for f, _, _ in here.signature.hard_differences(there.signature)] == ["tokens"]


def test_the_number_of_positions_is_a_hard_field(path: Path) -> None:
    """Another sample of positions is another probe."""
    one, two = (NextToken(path=path, positions=k).run(FakeModel()) for k in (1, 2))
    fields = {field for field, _, _ in one.signature.hard_differences(two.signature)}
    assert "positions" in fields


def test_a_limit_counts_positions(path: Path) -> None:
    """A limit takes so many positions, over all documents, and keeps what is comparable."""
    everything = NextToken(path=path).run(FakeModel())
    limited = NextToken(path=path).run(FakeModel(), limit=4)
    assert limited.n == 4
    assert set(limited.item_ids.tolist()) < set(everything.item_ids.tolist())
    assert limited.signature.hard == everything.signature.hard


def test_an_appended_document_leaves_the_others_ids_alone(path: Path) -> None:
    """Documents are named by content; an edited one has all new ids."""
    before = NextToken(path=path).run(FakeModel()).item_ids.tolist()
    longer = NextToken(path=rows(path.parent, [*TEXTS, "new words here"])).run(FakeModel())
    assert longer.item_ids.tolist()[: len(before)] == before
    edited = NextToken(path=rows(path.parent, [TEXTS[0] + "!", *TEXTS[1:]])).run(FakeModel())
    assert edited.item_ids.tolist()[4:] == before[4:]
    assert not set(edited.item_ids.tolist()[:4]) & set(before)


def test_a_document_that_occurs_twice_is_two_documents(tmp_path: Path) -> None:
    """Equal texts have tokens of their own."""
    predictions = NextToken(path=rows(tmp_path, [TEXTS[0]] * 2)).run(FakeModel())
    assert (predictions.n, len(set(predictions.item_ids.tolist()))) == (8, 8)


def test_documents_of_one_token_give_nothing_to_predict(tmp_path: Path) -> None:
    """A document without a second token adds none; where no document has one, the probe fails."""
    some = NextToken(path=rows(tmp_path, ["alone", "two words"])).run(FakeModel())
    assert some.n == 1
    with pytest.raises(ProbeError, match=r"probe 'next_token': no document has a token to predict"):
        NextToken(path=rows(tmp_path, ["alone", "single"])).run(FakeModel())


@pytest.mark.parametrize("positions", [0, -1, "some", 1.5, None])
def test_impossible_positions_are_refused(positions: object) -> None:
    """The message names the probe and the value."""
    with pytest.raises(UsageError, match=r"probe 'next_token': positions must be at least 1 or"):
        NextToken(positions=positions)  # type: ignore[arg-type]
