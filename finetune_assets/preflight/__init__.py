"""Looks at tasks before anything is run or paid: what the YAML names, the data behind it, and the provider.

`names` is quick and asks nobody: `dg check defs` and `doctor` stop there. `examples` reads the data as the stages would
and `provider` asks the provider: `finetune-assets check` does all of it.
"""
