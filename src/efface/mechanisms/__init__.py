"""What several methods share: codes, learnt noise, attacks, distillation, relabelling; a floor below the methods."""
