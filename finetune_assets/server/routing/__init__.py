"""One address for several servers over one database and one store: `finetune-assets route`."""
