"""Flow `adapt`: distill an encoder for this workspace, from its pool and its training items."""

from __future__ import annotations

from flows.run import Count, Run, Seed
from tasks.adapt_encoder import Adaptation, adapt_encoder


def adapt(run: Run, texts: Count = Adaptation.texts, labels: bool = True, teacher: str = "", seed: Seed = 0) -> str:
    """Adapt an encoder; run again after a crash, it resumes. Returns its encoder_id.

    Args:
        texts: Maximum number of texts of the pool to read; if it has more, a random sample.
        labels: Whether to train the sentence encoder on the training items first.
        teacher: The directory of another sentence encoder, relative to the workspace.
        seed: Random seed.
    """
    run.rename(f"adapt to {texts:,} texts")
    folder = run.project.workspace.root / teacher if teacher else None
    encoder_id = run.stage(adapt_encoder, run.project, Adaptation(texts=texts, labels=labels, seed=seed), folder)
    run.say(f"Adapted encoder {encoder_id}.")
    return encoder_id
