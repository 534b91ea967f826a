"""pretrain, search, finetune, evaluate, report; they talk through files and never import each other."""
