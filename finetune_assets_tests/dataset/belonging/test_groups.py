"""Groups of examples that must stay together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset import splits
from finetune_assets.dataset.belonging.groups import Groups, components, linked

SEED = 7


def merged(names: list[str], images: list[int]) -> tuple[Groups, list[str]]:
    """Group rows by name and by image (0 is none); return the groups and the name of each row's group."""
    hashes = np.array([splits.key(SEED, name) for name in names], np.uint64)
    groups = Groups(hashes, [linked(np.array(images, np.uint64))])
    groups.name_merged([pd.DataFrame({"group": names})])
    return groups, [groups.names.get(int(group), name) for group, name in zip(groups.of_row, names, strict=True)]


def test_groups_that_share_an_image_are_one_under_the_smallest_name() -> None:
    assert merged(["p2", "p1", "p3"], [5, 5, 6])[1] == ["p1", "p1", "p3"]


def test_rows_without_an_image_share_none() -> None:
    assert merged(["a", "b"], [0, 0])[1] == ["a", "b"]


def test_a_merged_group_lies_where_its_name_does() -> None:
    groups, _ = merged(["p2", "p1"], [5, 5])
    wanted = splits.places(np.array([splits.key(SEED, "p1")], np.uint64))[0]
    assert groups.position(SEED).tolist() == [wanted, wanted]


def test_a_chain_of_more_pairs_than_are_taken_at_once_is_one_group() -> None:
    rows = np.arange((1 << 20) + 3)[::-1]
    assert not components(rows, [(rows[:-1], rows[1:])]).any()


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4)), min_size=1, max_size=14))
def test_groups_are_the_connected_components_of_shared_names_and_images(pairs: list[tuple[str, int]]) -> None:
    _, found = merged([name for name, _ in pairs], [image for _, image in pairs])

    # The independent way: join any two rows that share something, until nothing changes.
    component = list(range(len(pairs)))
    for _ in pairs:
        for i, (name, image) in enumerate(pairs):
            for j, (other_name, other_image) in enumerate(pairs):
                if name == other_name or (image and image == other_image):
                    component[i] = component[j] = min(component[i], component[j])
    for i in range(len(pairs)):
        for j in range(len(pairs)):
            assert (found[i] == found[j]) == (component[i] == component[j])
