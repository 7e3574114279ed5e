"""One-to-one matching of queries and targets (reference: "Training", Hungarian matching)."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData
from mmseg.models.assigners import HungarianAssigner as MMSegHungarianAssigner
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmzeg.registry import TASK_UTILS


@TASK_UTILS.register_module()
class HungarianAssigner(MMSegHungarianAssigner):
    """mmseg's Hungarian matching, safe under mixed precision and for an image without targets.

    Args:
        match_costs (list[dict]): Costs, each with its weight, built from any OpenMMLab scope. A cost takes
            ``pred_instances`` and ``gt_instances`` and returns (Q, N). ZegFormer's:
            ``mmdet.ClassificationCost``, ``mmdet.FocalLossCost(binary_input=True)`` and ``mmdet.DiceCost``.
    """

    def assign(self, class_logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Match the queries of one image with its targets at the least total cost; arguments as of ``cost``.

        Returns:
            tuple[Tensor, Tensor]: Query indices and target indices, both (min(Q, N),), ascending queries.

        Raises:
            FloatingPointError: A cost is not finite, so no matching means anything.
        """
        return self.solve([self.cost(class_logits, mask_logits, labels, masks)])[0]

    @torch.no_grad()
    def cost(self, class_logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor) -> Tensor:
        """(Q, N) float32 costs of every query (of one layer, or of several in a row) with every target.

        Args:
            class_logits (Tensor): (Q, C + 1), "no object" last.
            mask_logits (Tensor): (Q, h, w).
            labels (Tensor): (N,) class indices in [0, C); N may be 0, or more than Q.
            masks (Tensor): (N, h, w) binary targets at the resolution of ``mask_logits``.
        """
        if labels.numel() == 0:
            return class_logits.new_zeros(len(class_logits), 0, dtype=torch.float32)
        # float32: the costs take logarithms of 1e-12, which half precision cannot hold.
        predictions = InstanceData(scores=class_logits.float(), masks=mask_logits.float())
        targets = InstanceData(labels=labels, masks=masks.float())
        with torch.autocast(class_logits.device.type, enabled=False):
            return sum(match_cost(predictions, targets) for match_cost in self.match_costs)

    @staticmethod
    def solve(costs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The cheapest one-to-one matching of every (Q, N) matrix, see ``assign``; one way to the CPU and one back."""
        host = torch.cat([cost.flatten() for cost in costs]).cpu()
        if not torch.isfinite(host).all():
            raise FloatingPointError('the matching cost is not finite: the network diverged; lower the learning rate')
        parts = host.split([cost.numel() for cost in costs])
        found = [linear_sum_assignment(part.view(cost.shape).numpy()) for part, cost in zip(parts, costs, strict=True)]
        pairs = torch.from_numpy(np.concatenate([np.stack(pair) for pair in found], 1)).to(costs[0].device)
        return [tuple(part) for part in pairs.split([len(queries) for queries, _ in found], 1)]
