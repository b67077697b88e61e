"""Titles for generated movies: distinct, readable and invented."""

from __future__ import annotations

import numpy as np

FIRST = (
    "Amber", "Broken", "Burning", "Crimson", "Distant", "Empty", "Endless", "Fallen", "Forgotten", "Frozen",
    "Gentle", "Golden", "Hidden", "Hollow", "Iron", "Last", "Little", "Lonely", "Midnight", "Northern",
    "Paper", "Quiet", "Red", "Second", "Secret", "Silent", "Silver", "Sleeping", "Stolen", "Strange",
    "Summer", "Velvet", "Wandering", "White", "Wild", "Winter",
)  # fmt: skip
SECOND = (
    "Bridge", "Carnival", "City", "Corridor", "Daughter", "Engine", "Forest", "Garden", "Ghost", "Harbour",
    "Horizon", "Hour", "Island", "Journey", "Kingdom", "Lantern", "Letter", "Light", "Machine", "Mirror",
    "Mountain", "Neighbour", "Ocean", "Orchard", "Parade", "Promise", "Relay", "River", "Road", "Runner",
    "Season", "Shadow", "Signal", "Song", "Station", "Stranger", "Tide", "Tower", "Train", "Witness",
)  # fmt: skip


def make(count: int, rng: np.random.Generator) -> list[str]:
    """Return ``count`` distinct titles; after all pairs of words are used up, sequels get a number."""
    pairs = len(FIRST) * len(SECOND)
    order = rng.permutation(pairs)
    names: list[str] = []
    for k in range(count):
        first, second = divmod(int(order[k % pairs]), len(SECOND))
        part = k // pairs
        names.append(f"The {FIRST[first]} {SECOND[second]}" + (f", Part {part + 1}" if part else ""))
    return names
