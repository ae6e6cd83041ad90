"""The Dagster side: one YAML file becomes nine assets per region, their checks, a sensor, a schedule and two jobs."""

from finetune_assets.pipeline.component import FineTuningTask as FineTuningTask
