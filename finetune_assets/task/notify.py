"""Whom a task tells what a person ought to know. Addresses and passwords are in the environment; a YAML names them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from finetune_assets.task.strict import Strict, Text


def _a_variable(found: str) -> str:
    if not (found.isascii() and found.replace("_", "").isalnum() and found == found.upper() and not found[0].isdigit()):
        # What it holds may be a secret, which a message would carry into logs.
        raise ValueError(
            "must be the name of an environment variable, such as SLACK_WEBHOOK_URL, and not what it holds, "
            f"got a text of {len(found)} characters"
        )
    return found


def _an_address(found: str) -> str:
    name, at, host = found.rpartition("@")
    if not (name and at and host) or any(char.isspace() or char in '<>,;"' for char in found):
        raise ValueError("must be an e-mail address, such as ops@example.org")
    return found


Variable = Annotated[Text, AfterValidator(_a_variable)]
Address = Annotated[Text, AfterValidator(_an_address)]
Kind = Literal["failed_jobs", "failed_checks", "failed_runs", "approvals", "model_ends"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Email(Strict):
    """Mail, by any SMTP server."""

    to: list[Address] = Field(min_length=1, max_length=50, description="Who gets it.")
    smtp: Variable = Field(
        default="SMTP_URL", description="Variable with the server: smtp://user:password@host:587, or smtps:// for TLS."
    )
    sender: Address | None = Field(default=None, description="From whom it comes; by default the user of the server.")


class Notify(Strict):
    """Who is told of failures and of what waits for a person; each of them once."""

    slack: Variable | None = Field(
        default=None,
        description="Variable with the address of a Slack incoming webhook, or of one that takes the same.",
    )
    webhook: Variable | None = Field(
        default=None, description="Variable with an address that takes a POST of JSON: `task` and `notices`."
    )
    email: Email | None = None
    """Mail to people."""
    of: list[Kind] = Field(
        default=list(KINDS),
        min_length=1,
        description="What is told: fine-tuning jobs that failed, failed checks of severity error, runs that failed "
        "otherwise, promotions that wait for approval, models with 30 days left.",
    )

    @model_validator(mode="after")
    def _someone_is_told(self) -> Notify:
        if not (self.slack or self.webhook or self.email):
            raise ValueError("must name slack, webhook or email")
        return self
