"""The Dagster side: one YAML file becomes eleven assets per region, their checks, sensors, a schedule and two jobs."""

from finetune_assets.pipeline.component import FineTuningTask as FineTuningTask
