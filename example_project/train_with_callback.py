"""Fine-tune in full, and keep the checkpoint that is best calibrated instead of the last one.

Training stops after three evaluations without a better calibration than before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from almanac import narrow_facts
from finetune import BASE_DIR, PadRight, encode
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
)

from pytest_calibration import CalibrationCallback

HERE = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, default=HERE / "runs" / "callback")
runs = parser.parse_args().output

tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
examples = [encode(tokenizer, fact) for fact in narrow_facts()]
trainer = Trainer(
    AutoModelForCausalLM.from_pretrained(BASE_DIR),
    TrainingArguments(
        output_dir=str(runs),
        max_steps=200,
        learning_rate=1e-4,
        per_device_train_batch_size=32,
        **{"eval_strategy": "steps", "eval_steps": 10, "save_steps": 10, "logging_steps": 10},
        **{"load_best_model_at_end": True, "metric_for_best_model": "calibration_ece"},
        **{"use_cpu": True, "report_to": "none", "disable_tqdm": True},
    ),
    train_dataset=examples[:-32],
    eval_dataset=examples[-32:],
    processing_class=tokenizer,
    data_collator=PadRight(tokenizer.pad_token_id),
    callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
)
CalibrationCallback(
    ["almanac-facts", "almanac-questions"],  # from calibration.yaml
    config=HERE / "calibration.yaml",
    baseline=HERE / "tests" / "calibration_baselines",
    history=runs / "history.jsonl",
).attach(trainer)
trainer.train()

best = trainer.state.best_model_checkpoint
# Not trainer.model: the Trainer may lose the head of a GPT-NeoX, and the callback says so.
AutoModelForCausalLM.from_pretrained(best).save_pretrained(runs / "best")
tokenizer.save_pretrained(runs / "best")
print(f"kept {best} of {trainer.state.global_step} steps: ECE {trainer.state.best_metric:.3f}")
