"""LoRA adapters that PEFT saved: reading their folder, finding their base, merging the two."""
