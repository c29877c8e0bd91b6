"""Stage `publish_batches`: write the files of every open batch that has none yet."""

from __future__ import annotations

import logging
from pathlib import Path

from annotation.batch import contents_of, write_batch
from storage.files.folders import MANIFEST
from storage.lake.batches import published_batches
from tasks.project import Project

log = logging.getLogger(__name__)


def lacks_files(project: Project) -> bool:
    """Whether an open batch has no files: a run was killed before it wrote them, or they were lost."""
    opened = published_batches(project.workspace.store())
    return any(not (project.workspace.batches / batch.batch_id / MANIFEST).is_file() for batch in opened)


def publish_batches(project: Project) -> list[Path]:
    """Write the missing folders of open batches, also those of a run that was killed; returns the new folders."""
    workspace = project.workspace
    store = workspace.store()
    written = []
    for batch in published_batches(store):
        folder = workspace.batches / batch.batch_id
        if (folder / MANIFEST).is_file():
            continue
        if write_batch(folder, batch, contents_of(store, batch), project.config.task):
            log.info("Wrote the files of batch %s: %s", batch.batch_id, folder)
            written.append(folder)
    return written
