"""Stage `publish`: the files of every open batch that has none yet, here and where other machines share them."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task

from annotation.batch import contents_of, write_batch
from annotation.label_set import LabelSet
from storage.batches import open_batches
from storage.folders import MANIFEST
from storage.workspace import Workspace

log = logging.getLogger(__name__)


@task
def publish_batches(workspace: Workspace, label_set: LabelSet) -> list[Path]:
    """Write what is missing, also what an earlier run was killed before; returns the new folders."""
    workspace.pull()
    store = workspace.store()
    written = []
    for progress in open_batches(store):
        batch = progress.batch
        folder = workspace.batches / batch.batch_id
        if (folder / MANIFEST).is_file():
            continue
        if write_batch(folder, batch, contents_of(store, batch), label_set):
            log.info("published batch %s: %s", batch.batch_id, folder)
            written.append(folder)
    workspace.share_missing()
    return written
