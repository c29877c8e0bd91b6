"""Stage `edit_item`: corrects a text, also in the files of open batches, and queries the item again if needed."""

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
    """A correction, and the batch that queries the item again, if any."""

    edited: Edited
    batch_id: str | None


def edit_item(project: Project, item_id: str, text: str) -> ItemEdit:
    """Correct an item's text and query the item again if it was answered. After a kill, repeat the call.

    Raises:
        SourceError: The new text is empty.
        BatchError: There is no such item, another item has this text, or it was answered in an open review batch.
    """
    store, batches = project.store, project.workspace.batches
    edited = edit(store, item_id, text)
    for batch_id in edited.open_batches:
        batch = find_batch(store, batch_id).batch
        contents = contents_of(store, batch, project.config.batch.context)
        write_changed(batches / batch_id, batch, contents, project.label_set)
        log.info("Updated the files of batch %s with the corrected text.", batch_id)
    again: str | None = None
    if has_only_outdated_answers(store, item_id):
        again = reserve_again(project, Purpose.REVIEW, Again([item_id], "corrected"), beside_open=True)
    publish_batches(project)
    return ItemEdit(edited, again)
