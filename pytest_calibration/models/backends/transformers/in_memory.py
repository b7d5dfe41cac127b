"""What all models in memory have: name, identity, description, chat template, and their release."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, Final, Self

import torch
import transformers

from pytest_calibration.errors import CalibrationError, ModelError
from pytest_calibration.models.backends import ModelSpec
from pytest_calibration.models.backends.transformers.checkpoint_files import FileState
from pytest_calibration.models.backends.transformers.kinds import of_another_kind
from pytest_calibration.models.backends.transformers.loading_settings import TransformersSettings
from pytest_calibration.models.backends.transformers.onednn import is_plain
from pytest_calibration.models.backends.transformers.quantisation import quantised_by
from pytest_calibration.models.backends.transformers.reading import (
    Checkpoint,
    entrance,
    quiet,
    read,
)
from pytest_calibration.models.causal.chat import rendered
from pytest_calibration.models.digests import Digest
from pytest_calibration.models.protocols import Message

# What makes a model return named outputs, and no more of them than are read.
_PLAIN_OUTPUT: Final = {
    "return_dict": True,
    "output_hidden_states": False,
    "output_router_logits": False,
}
# Integer type by number of bytes.
_BITS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch a model to evaluation and plain output for a while, and each part back afterwards."""
    training = [module for module in model.modules() if module.training]
    configs = {id(c): c for c in (getattr(m, "config", None) for m in model.modules())}
    forms = [
        (config, name, getattr(config, name))
        for config in configs.values()
        for name, plain in _PLAIN_OUTPUT.items()
        if getattr(config, name, plain) is not plain
    ]
    for module in training:
        module.training = False
    for config, name, _ in forms:
        setattr(config, name, _PLAIN_OUTPUT[name])
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for config, name, before in forms:
            setattr(config, name, before)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Raise what a model's own code raises as ModelError, in one sentence."""
    try:
        yield
    except CalibrationError:
        raise
    except Exception as problem:
        first = " ".join(str(problem).split())[:200].rstrip(".")
        raise ModelError(
            f"{name}: the model's own code fails at scoring ({type(problem).__name__}: {first})."
        ) from problem


class ModelInMemory:
    """A model of transformers in memory, with its tokenizer.

    Made by :meth:`load` or :meth:`of`.

    Attributes:
        name: what reports call it.
        base: the model without an adapter around it.
        max_tokens: how many tokens of a text it can read.
        temperature: that its logits are divided by before any soft-max.
        checkpoint_notes: sentences about what was loaded.
    """

    TASK: ClassVar[str]

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        device: torch.device,
        batch_tokens: int | None = None,
        revision: str | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.name = name
        self.temperature = temperature
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.revision = revision
        self.checkpoint_notes: tuple[str, ...] = ()
        self._files: tuple[FileState, ...] = ()
        self.base = without_adapter(model)
        # Tokens that an adapter puts before every text.
        self.virtual = virtual_tokens(model)
        self.max_tokens = max_tokens(self.base) - self.virtual
        self._prepare(batch_tokens)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Score in this block, as :func:`evaluating` and :func:`explained` do.

        Raises:
            ModelError: the files of the checkpoint were changed meanwhile.
        """
        with evaluating(self.model):
            try:
                with explained(self.name):
                    yield
            finally:
                self._check_files()

    def _check_files(self) -> None:
        """Raise ModelError where a file that was read is another now.

        Weights in main memory may still be those of the file, which changes them.
        """
        changed = next((state.path for state in self._files if state.rewritten()), None)
        if changed is not None:
            raise ModelError(
                f"{self.name}: {changed} was changed while the model was tested, so what was "
                "measured is of no one model; test it again when nothing writes there, or a copy."
            )

    def _prepare(self, batch_tokens: int | None) -> None:
        """Get ready to score, with so many tokens per forward pass."""
        raise NotImplementedError

    @classmethod
    def check(cls, name: str, model: Any) -> None:
        """Raise ModelError for a model of transformers that is of another kind."""
        raise NotImplementedError

    @classmethod
    def load(cls, spec: ModelSpec, settings: TransformersSettings) -> Self:
        """Load a checkpoint.

        Raises:
            ModelError: it is not there, is of another kind, lacks weights or a tokenizer, or would
                need something that was not allowed.
        """
        return cls.of_checkpoint(read(spec, settings), spec, settings)

    @classmethod
    def of_checkpoint(
        cls, checkpoint: Checkpoint, spec: ModelSpec, settings: TransformersSettings
    ) -> Self:
        """Take a checkpoint that was read.

        Raises:
            ModelError: it is of another kind.
        """
        if checkpoint.task != cls.TASK:
            raise of_another_kind(spec.name, type(without_adapter(checkpoint.model)), cls.TASK)
        made = cls(
            checkpoint.model,
            checkpoint.tokenizer,
            spec.name,
            device=checkpoint.device,
            batch_tokens=settings.batch_tokens,
            revision=spec.revision,
            temperature=settings.temperature,
        )
        notes = list(checkpoint.notes)
        if settings.temperature != 1:
            notes.append(f"it is served at a temperature of {settings.temperature:g}")
        made.checkpoint_notes = tuple(notes)
        made.notes[:0] = notes
        made._files = checkpoint.files
        made._check_files()
        return made

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "model",
        batch_tokens: int | None = None,
        temperature: float = 1.0,
    ) -> Self:
        """Take a model that is already in memory, such as one in training.

        It is scored with the weights it has then, without dropout, and keeps its mode.

        Args:
            model: a model of transformers, or a peft model around one.
            tokenizer: its tokenizer.
            name: what reports call it.
            batch_tokens: tokens per forward pass; None for what suits the device.
            temperature: that it is served at: its logits are divided by it before any soft-max.

        Raises:
            ModelError: it is of another kind.
        """
        cls.check(name, without_adapter(model))
        device = next(model.parameters()).device
        if device.type == "meta":
            device = entrance(model)
        return cls(
            model,
            tokenizer,
            name,
            device=device,
            batch_tokens=batch_tokens,
            temperature=temperature,
        )

    @property
    def notes(self) -> list[str]:
        """Sentences about how this model is scored that a user should know; each once."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Digest of configuration, tokenizer and the weights as they are now."""
        template = str(getattr(self.tokenizer, "chat_template", None))
        config = self.model.config.to_json_string()
        digest = Digest(config, self._tokenizer_digest, template, size=16)
        if self.temperature != 1:
            digest.add(float(self.temperature))
        for name, weight in sorted(self.model.state_dict().items()):
            digest.add([name, *_content(weight)])
        return digest.text()

    @cached_property
    def _tokenizer_digest(self) -> str:
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = self.tokenizer.get_vocab() if fast is None else fast.to_str()
        return Digest(vocabulary, size=16).text()

    @property
    def description(self) -> Mapping[str, str]:
        """Settings and versions that describe how it scores."""
        dtype = str(next(self.model.parameters()).dtype).removeprefix("torch.")
        by = quantised_by(self.base)
        out = {
            "dtype": f"{dtype} quantised by {by}" if by else dtype,
            "device": self.device.type,
            "torch": torch.__version__.partition("+")[0],
            "transformers": transformers.__version__,
        }
        if self.revision:
            out["revision"] = self.revision
        if self.temperature != 1:
            out["temperature"] = f"{self.temperature:g}"
        return out

    def render_chat(
        self, chats: Sequence[Sequence[Message]], variables: Mapping[str, object]
    ) -> list[str]:
        """See :class:`~pytest_calibration.models.protocols.ChatModel`."""
        with quiet():
            return [rendered(self.tokenizer, self.name, chat, variables) for chat in chats]

    def close(self) -> None:
        """Free the weights."""
        del self.model, self.base
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _content(weight: Any) -> list[Any]:
    """Return what tells an entry of a model's state from another."""
    if isinstance(weight, torch.Tensor) and is_plain(weight) and not weight.is_quantized:
        bits = weight.detach().view(_BITS[weight.element_size()])
        return [str(weight.dtype), list(weight.shape), *map(_bytes, _sums(bits))]
    # Of quantised layers also tensors with their scales, tuples of these, and types.
    saved = io.BytesIO()
    torch.save(weight, saved)
    return [saved.getvalue()]


def _sums(bits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the sum of each row and of each column, which tell rows that changed places.

    Sums of whole numbers do not depend on their order, and overflow the same everywhere.
    """
    if bits.ndim < 2:
        return (bits,)
    table = bits.flatten(1)
    return table.sum(0), table.sum(1)


def _bytes(values: torch.Tensor) -> bytes:
    return bytes(values.cpu().numpy().tobytes())


def without_adapter(model: Any) -> Any:
    """Return the model of transformers in a peft model; any other as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def max_tokens(model: Any) -> float:
    """Return how many tokens a model has positions for."""
    config = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in (
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "max_target_positions",
    ):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value - _positions_of_padding(model, value)
    return math.inf


def _positions_of_padding(model: torch.nn.Module, size: int) -> int:
    """Return how many of the positions are kept for padding: tokens begin after it.

    RoBERTa and its like count 514 positions, the first two for padding, and read 512 tokens.
    """
    tables = (m for name, m in model.named_modules() if "position" in name.rpartition(".")[2])
    return max(
        (
            table.padding_idx + 1
            for table in tables
            if isinstance(table, torch.nn.Embedding)
            and table.num_embeddings == size
            and table.padding_idx is not None
        ),
        default=0,
    )


def virtual_tokens(model: Any) -> int:
    """Return how many tokens a prompt-learning adapter adds before every text."""
    config = getattr(model, "active_peft_config", None)
    if not getattr(config, "is_prompt_learning", False):
        return 0
    return int(getattr(config, "num_virtual_tokens", 0))
