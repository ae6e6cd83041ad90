"""What `dg scaffold defs finetune_assets.pipeline.FineTuningTask NAME` writes: a small task that loads and runs."""

from __future__ import annotations

import csv
import json
from io import StringIO
from itertools import product

import dagster as dg
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from finetune_assets.errors import TaskError
from finetune_assets.task import TaskName
from finetune_assets.task.places import FILE, TYPE

DATA = "examples.csv"
_SUBJECTS = ("soup", "room", "waiter", "garden", "breakfast", "bill", "music", "terrace", "coffee", "view", "bread")
_JUDGEMENTS = {
    "was far better than we had hoped": "Yes",
    "made our whole evening": "Yes",
    "is reason enough to come back soon": "Yes",
    "deserves every star": "Yes",
    "spoilt our first day": "No",
    "was a sad disappointment": "No",
    "is the worst we have ever had": "No",
    "made us leave early": "No",
}  # fmt: skip
_YAML = """\
type: {type}

attributes:
  task: {task}
  # This example runs as it is. Put your own data, words and model in its place; `finetune-assets check {task}` then
  # says what is missing, and `finetune-assets init FILE` proposes such a file for data of yours.
  description: Whether a guest liked it, from one sentence of a review.
  regions: [reviews] # each is trained on its own; `discover` takes those that the data has
  source:
    kind: table
    path: {data} # beside this file
    question: "{{sentence}}"
    answer: "{{liked}}"
    region: "{{region}}"
  sampling: {{train: 0.5, validation: 0.1, calibration: 0.2, test: 0.2}}
  prompt:
    system: You read reviews.
    user: "Did the guest like it? {{question}} Answer Yes or No."
  answer: {{kind: binary, positive: "Yes", negative: "No"}}
  filtering: {{near_duplicates: false}} # the sentences of this example are alike; leave it out for your own data
  provider: {provider} # local, openai, azure, or a base URL
  base_model: {base_model}
  budget_usd: 5 # most that one region's training may cost
"""


class NewTask(BaseModel):
    """What the command may be told of the new task."""

    provider: str = Field(default="local", description="local, openai, azure, or the base URL of another provider.")
    base_model: str = Field(default="smollm2-135m-instruct", description="What is fine-tuned, in the provider's words.")


class TaskScaffolder(dg.Scaffolder[NewTask]):
    """Writes `defs.yaml` and the table that it reads."""

    @classmethod
    def get_scaffold_params(cls) -> type[NewTask]:
        """Return what the command may be told."""
        return NewTask

    def scaffold(self, request: dg.ScaffoldRequest[NewTask]) -> None:
        """Write the task into a folder of its name.

        Raises:
            TaskError: its name or place is none for a task.
        """
        name = request.target_path.name
        if request.append or request.scaffold_format != "yaml":
            raise TaskError("a task is a YAML file of its own: scaffold it without --format and into its own folder")
        try:
            TypeAdapter(TaskName).validate_python(name)
        except ValidationError:
            words = "lower-case letters, digits and underscores, and begins with a letter"
            raise TaskError(f"a task is called as its folder, and its name has {words}, got {name!r}") from None
        said = {key: json.dumps(value, ensure_ascii=False) for key, value in request.params}
        text = _YAML.format(type=TYPE, task=name, data=DATA, **said)
        (request.target_path / FILE).write_text(text, "utf-8")
        (request.target_path / DATA).write_text(_examples(), "utf-8")


def _examples() -> str:
    table = StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["region", "sentence", "liked"])
    for subject, judgement in product(_SUBJECTS, _JUDGEMENTS):
        rows.writerow(["reviews", f"The {subject} {judgement}.", _JUDGEMENTS[judgement]])
    return table.getvalue()
