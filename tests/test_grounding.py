"""Where prompts point and tokens look, and the loss of it, by hand."""

import pytest
import torch
from torch.testing import assert_close

from sam2love.fusion import Tokens
from sam2love.grounding import LearnedPositions, cell_areas, grounding_loss, pointing
from sam2love.sam.build import SAM2Base, build_sam2
from sam2love.sam.decode import click, grid_positions
from tests import tiny


@pytest.fixture
def sam2() -> SAM2Base:
    torch.manual_seed(0)
    return build_sam2(str(tiny.SAM2_CONFIG))


def test_positions_are_added_to_what_stands_there():
    positions = LearnedPositions(4, patch_positions=torch.randn(6, 3))
    shapes = {"audio": (2, 10, 4), "patches": (2, 3, 6, 4), "cls": (2, 3, 4), "text": (2, 5, 4)}
    placed = positions(Tokens(**{name: torch.zeros(shape) for name, shape in shapes.items()}))
    cells = positions.patch(positions.patch_positions)
    assert_close(placed.audio[1, 7], positions.second[7])
    assert_close(placed.text[0, 4], positions.word[4])
    assert_close(placed.cls[1, 2], positions.frame[2])
    assert_close(placed.patches[0, 2, 5], positions.frame[2] + cells[5])


def test_a_click_on_a_cell_points_to_that_cell(sam2):
    side = sam2.sam_image_embedding_size
    stride = sam2.image_size // side
    # What says that a point is a click, not where it is, is set aside.
    torch.nn.init.zeros_(sam2.sam_prompt_encoder.point_embeddings[1].weight)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centres = torch.stack([x, y], dim=-1).view(-1, 2) * stride + stride / 2
    prompts = click(sam2, centres - 0.5)  # SAM 2 adds half a pixel
    cells = pointing(prompts, grid_positions(sam2, cells=side**2))
    assert cells.shape == (side * side, side * side)
    assert cells.argmax(1).tolist() == list(range(side * side))


def test_the_likelihood_of_a_cell_falls_with_the_distance(sam2):
    positions = grid_positions(sam2, cells=64)
    own = pointing(positions[:, None], positions).view(8, 8, 8, 8)
    near = own[3, 3, 3, 4] + own[3, 3, 4, 3]
    assert 2 * own[3, 3, 3, 3] > near
    assert near > own[3, 3, 0, 7] + own[3, 3, 7, 0]


def test_areas_of_masks_of_different_sizes():
    halves = torch.zeros(5, 6)
    halves[:, :3] = 1
    areas = cell_areas([torch.ones(7, 4), halves], cells=4)
    assert areas.tolist() == [[1, 1, 1, 1], [1, 0, 1, 0]]


def test_grounding_is_the_cross_entropy_of_area_shares():
    torch.manual_seed(0)
    mask = torch.zeros(8, 8)
    mask[:4, 4:] = 1  # all of cell 1 of a 2 x 2 grid
    mask[4:, 4:6] = 1  # half of cell 3
    cells = torch.randn(2, 4)
    total = 1 + cells.exp().sum(1)  # 1 is e to the logit of 'nowhere'
    found = -(2 / 3 * (cells[0, 1] - total[0].log()) + 1 / 3 * (cells[0, 3] - total[0].log()))
    missed = total[1].log()
    both = grounding_loss(cells, cell_areas([mask, torch.zeros(8, 8)], cells=4))
    assert both.item() == pytest.approx((found + missed).item() / 2)
