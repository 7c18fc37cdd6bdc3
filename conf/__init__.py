"""The configs that Hydra composes; the package `shrinkage.conf` of an installed shrinkage."""
