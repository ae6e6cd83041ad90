"""Evaluations of other tools: their tests become a task of ours, and a benchmark of ours becomes what they read.

`openai_evals` and `promptfoo` take labelled questions out of files that somebody else wrote, `importing` makes a task
of them; `inspect_log` and `promptfoo_config` write what a benchmark asked and found. Nothing in such a file is ever
run, and of the files that it names only tests, prompts and images beside it are read.
"""
