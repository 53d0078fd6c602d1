"""Costs against figures published or counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tracknet.pipeline.models import BUILDERS
from tracknet.pipeline.models.complexity import count_macs, model_card, model_cards
from tracknet.pipeline.models.v5 import EncoderLayer, SelfAttention


def test_layers_by_hand() -> None:
    assert count_macs(nn.Conv2d(2, 3, 3, padding=1), torch.zeros(1, 2, 4, 5)) == 4 * 5 * 3 * 2 * 9
    assert count_macs(nn.Conv2d(4, 4, 1, groups=2), torch.zeros(1, 4, 2, 2)) == 4 * 4 * 2
    assert count_macs(nn.Linear(8, 6), torch.zeros(5, 8)) == 5 * 8 * 6


def test_attention_is_counted_with_its_projections() -> None:
    length, features = 7, 16
    projections = length * features * 4 * features
    products = 2 * length * length * features
    tokens = torch.zeros(1, length, features)
    assert count_macs(SelfAttention(features), tokens) == projections + products
    feed_forward, norms = 2 * length * features * 4 * features, 2 * 4 * length * features
    assert count_macs(EncoderLayer(features).eval(), tokens) == (
        projections + products + feed_forward + norms
    )


@pytest.mark.parametrize(
    ("arch", "config", "published"),
    [
        ("v2", {}, 112.89),
        ("v4", {}, 112.89),
        ("v5", {"attention": "joint"}, 125.02),
        ("v5", {"attention": "factorized"}, 119.93),
    ],
)
def test_windows_in_billions(arch: str, config: dict[str, str], published: float) -> None:
    card = model_card(arch, config)
    assert card.macs_per_window / 1e9 == pytest.approx(published, abs=0.005)
    assert card.macs_per_frame == card.macs_per_window // 3


def test_published_figure_of_v5_leaves_attention_out() -> None:
    """Table 3 says 117.09 G: ours, less projections and products of four joint layers."""
    tokens, features = 3 * 18 * 32, 256
    attention = 4 * (4 * tokens * features**2 + 2 * tokens**2 * features)
    joint = model_card("v5", {"attention": "joint"}).macs_per_window
    assert (joint - attention) / 1e9 == pytest.approx(117.09, abs=0.005)


def test_table_has_every_model() -> None:
    cards = model_cards()
    assert {card.arch for card in cards} == set(BUILDERS)
    assert len({(card.arch, card.variant) for card in cards}) == len(cards)
    assert all(card.source and card.macs_per_frame for card in cards)
    v3 = next(card for card in cards if card.arch == "v3")
    assert (v3.input, v3.output) == ("background and 8 frames of 512x288", "8 heatmaps")
