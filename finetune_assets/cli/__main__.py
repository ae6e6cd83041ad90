"""`python -m finetune_assets.cli` is `finetune-assets`."""

from finetune_assets.cli import main

if __name__ == "__main__":
    main()
