"""Stage `edit_item`: a corrected text, in the files of open batches too, and asked again where it was answered."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from annotation.batch import contents_of, write_changed
from storage.lake.batches import find_batch
from storage.lake.edits import Edited, has_only_outdated_answers
from storage.lake.edits import edit_item as edit
from storage.records import Purpose
from tasks.ask_again import Again, reserve_again
from tasks.project import Project
from tasks.sample import publish_batches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemEdit:
    """A correction, and the batch that asks about the item again; None where none has to."""

    edited: Edited
    batch_id: str | None


def edit_item(project: Project, item_id: str, text: str) -> ItemEdit:
    """Correct an item's text and ask about it again where it was answered. The same call after a kill goes on.

    Raises:
        SourceError: The new text is empty.
        BatchError: There is no such item, another item has this text, or an open batch already has the item's answers.
    """
    store, batches = project.store, project.workspace.batches
    edited = edit(store, item_id, text)
    for batch_id in edited.open_batches:
        batch = find_batch(store, batch_id).batch
        contents = contents_of(store, batch, project.config.batch.context)
        write_changed(batches / batch_id, batch, contents, project.label_set)
        log.info("Wrote the files of batch %s again with the corrected text.", batch_id)
    again: str | None = None
    if has_only_outdated_answers(store, item_id):
        again = reserve_again(project, Purpose.REVIEW, Again([item_id], "corrected"), beside_open=True)
    publish_batches(project)
    return ItemEdit(edited, again)
