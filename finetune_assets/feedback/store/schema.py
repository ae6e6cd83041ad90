"""The tables, as the rest of the store sees them.

items      one example that is offered to reviewers, and what the model says about it
events     what reviewers said, in the order of `number`; rows are only ever added
standings  what each reviewer's last word on an item's present content is: a judgement, or else a skip
decisions  what the judgements of an item decide
leases     who has an item before him, and until when
handed     what of an item a reviewer was ever sent, which proves that a judgement was blind
guides     how the examples of a task are reviewed
asked      items that are questions asked in use, and whether the model's answer was given by itself
usage      how often what was asked in use had each value, by day; no question and no image
gold       items whose answer is known, by which reviewers are measured
reviewers  who may sign in, and what else he may do
sessions   who is signed in, and until when

Standings, decisions and the last columns of items follow from the events: `derived` keeps them, and can make them anew.
Times are Unix seconds.
"""

from __future__ import annotations

from sqlalchemy import DOUBLE_PRECISION, JSON, BigInteger, Boolean, Column, ForeignKey, Integer, MetaData, Table, Text
from sqlalchemy import UniqueConstraint as Unique

metadata = MetaData()
_JSON = JSON(none_as_null=True)
# SQLite counts by itself only what is an INTEGER.
_COUNTED = BigInteger().with_variant(Integer, "sqlite")


def _item(primary_key: bool = False) -> Column[int]:
    return Column("item", BigInteger, ForeignKey("items.number"), nullable=False, primary_key=primary_key)


items = Table(
    "items",
    metadata,
    Column("number", _COUNTED, primary_key=True),
    Column("task", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("example_id", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("split", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("image", Text),
    # The file of more than 8 bits from which the image was made.
    Column("original", Text),
    # All images, where there are several.
    Column("pictures", Text),
    Column("label", Text),
    Column("label_value", DOUBLE_PRECISION),
    Column("kind", Text, nullable=False),
    Column("options", _JSON, nullable=False),
    Column("doubt", Text),
    # The offer that it was part of last, and whether that was the region's last.
    Column("offer", Text, nullable=False),
    Column("offered", Boolean, nullable=False),
    # Puts items in an order that has nothing to do with what they are.
    Column("shuffle", Text, nullable=False),
    Column("model", Text),
    Column("model_answer", Text),
    Column("probability", DOUBLE_PRECISION),
    Column("base_answer", Text),
    Column("champion_answer", Text),
    # 0 where the model is least certain, below 0 of those to be reviewed first; NULL where it has said nothing.
    Column("certainty", DOUBLE_PRECISION),
    # How strongly a model denies the label; NULL where none does.
    Column("disagreement", DOUBLE_PRECISION),
    Column("n_judgements", Integer, nullable=False, default=0),
    Column("decided", Boolean, nullable=False, default=False),
    Column("last_event", BigInteger),
    Unique("task", "region", "example_id"),
)

events = Table(
    "events",
    metadata,
    Column("number", _COUNTED, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    _item(),
    Column("reviewer", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("answer", Text),
    Column("comment", Text),
    Column("undoes", BigInteger, ForeignKey("events.number"), unique=True),
    Column("content", Text, nullable=False),
    Column("shown", _JSON, nullable=False),
    Column("seconds", DOUBLE_PRECISION),
    Column("at", DOUBLE_PRECISION, nullable=False),
)

standings = Table(
    "standings",
    metadata,
    _item(primary_key=True),
    Column("reviewer", Text, primary_key=True),
    Column("event", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("answer", Text),
)

decisions = Table(
    "decisions",
    metadata,
    _item(primary_key=True),
    Column("content", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("answer", Text),
    Column("reviewers", _JSON, nullable=False),
    Column("n_judgements", Integer, nullable=False),
    Column("decided_at", DOUBLE_PRECISION, nullable=False),
    Column("last_event", BigInteger, nullable=False),
    Column("comment", Text),
    Column("blind", Boolean, nullable=False),
    Column("queue", Text),
)

leases = Table(
    "leases",
    metadata,
    _item(primary_key=True),
    Column("reviewer", Text, nullable=False),
    Column("queue", Text, nullable=False),
    # The order in which a reviewer got his items.
    Column("place", Integer, nullable=False),
    Column("until", DOUBLE_PRECISION, nullable=False),
)

handed = Table(
    "handed",
    metadata,
    _item(primary_key=True),
    Column("reviewer", Text, primary_key=True),
    Column("content", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    # Whether a model's answer was on the page or in the network's answer, and what others had judged.
    Column("model", Boolean, nullable=False),
    Column("others", Boolean, nullable=False),
    Column("at", DOUBLE_PRECISION, nullable=False),
)

guides = Table(
    "guides",
    metadata,
    Column("task", Text, primary_key=True),
    Column("guidelines", Text, nullable=False),
    Column("judgements", Integer, nullable=False),
    Column("show_model", _JSON, nullable=False),
    Column("gold", DOUBLE_PRECISION, nullable=False),
)

gold = Table(
    "gold",
    metadata,
    _item(primary_key=True),
    Column("content", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("at", DOUBLE_PRECISION, nullable=False),
)

asked = Table(
    "asked",
    metadata,
    _item(primary_key=True),
    # Whether it was given without a person, who checks it; else a person answers.
    Column("given", Boolean, nullable=False),
    Column("at", DOUBLE_PRECISION, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("task", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    # Since 1970, in UTC.
    Column("day", Integer, primary_key=True),
    Column("feature", Text, primary_key=True),
    # Its place among those of `evaluation.drift`.
    Column("bin", Integer, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

reviewers = Table(
    "reviewers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password", Text, nullable=False),
    Column("role", Text, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    # A hash: who reads the database cannot sign in with it.
    Column("token", Text, primary_key=True),
    Column("reviewer", Text, nullable=False),
    Column("until", DOUBLE_PRECISION, nullable=False),
)
