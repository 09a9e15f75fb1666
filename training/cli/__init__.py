"""Commands that train and judge models, one file each; loaded only when they are called."""
