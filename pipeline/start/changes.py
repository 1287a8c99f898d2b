"""Is there anything to retrain for? What a training would be made of, against what the last accepted model was."""

from __future__ import annotations

import hashlib
import json

from pipeline.journal.records import ExportContent
from pipeline.journal.store import Journal
from pipeline.models import ExportReport, TrainPlan

_CLASSES_SHOWN = 6


def ingredients(plan: TrainPlan, export: ExportReport) -> str:
    """Return a SHA-256 over everything a model is made of: images, annotations, classes, pipeline, hyperparameters."""
    made_of = [export.content_fingerprint, plan.request.kind, plan.config_asked.to_wire()]
    if further := plan.request.further_ingredients:  # else as ever: what was accepted before there was any stays valid
        made_of.append(further)
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def content_of(report: ExportReport) -> ExportContent:
    """Return what an export holds, for comparing it with a later one."""
    return ExportContent(
        images=report.export.image_count, objects={count.name: count.objects for count in report.classes}
    )


def compare_with_last(journal: Journal, plan: TrainPlan, export: ExportReport) -> tuple[bool, str]:
    """Return whether a training would give another model than the last accepted one, and why, in words."""
    last = journal.last_accepted(plan.job, sandbox=plan.profile.sandbox)
    if last is None:
        return True, "no model of this data set and pipeline was accepted before"
    if last.content_fingerprint == ingredients(plan, export):
        return False, f"nothing changed since {last.run_name} was accepted (operation {last.operation_id})"
    changes = describe_changes(last.content, content_of(export)) if last.content is not None else ""
    return True, changes or "same counts, but other images, labels or hyperparameters"


def describe_changes(before: ExportContent, now: ExportContent) -> str:
    """Return what is different in counts, such as ``+34 images, class bus new``; empty when nothing is."""
    said = []
    if before.images is not None and now.images is not None and before.images != now.images:
        said.append(f"{now.images - before.images:+d} images")
    said += [f"class {name} new" for name in now.objects if name not in before.objects]
    said += [f"class {name} gone" for name in before.objects if name not in now.objects]
    for name, count in now.objects.items():
        if (change := count - before.objects.get(name, count)) != 0:
            said.append(f"{name} {change:+d}")
    more = len(said) - _CLASSES_SHOWN
    return ", ".join(said[:_CLASSES_SHOWN]) + (f" and {more} more changes" if more > 0 else "")
