"""One-to-one matching of queries and ground-truth masks (docs/en/method.md#matching)."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData
from mmseg.models.assigners import HungarianAssigner as MMSegHungarianAssigner
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmzeg.models.device_copies import copy_to_device
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
        """Match the queries of one image with its targets at the lowest total cost; arguments as of ``cost``.

        Returns:
            tuple[Tensor, Tensor]: Query indices and target indices, both (min(Q, N),), ascending queries.

        Raises:
            FloatingPointError: A cost is not finite.
        """
        cost = self.cost(class_logits, mask_logits, labels, masks)
        ((queries, targets),) = self.solve([cost])
        return copy_to_device(queries, cost.device), copy_to_device(targets, cost.device)

    @torch.no_grad()
    def cost(self, class_logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor) -> Tensor:
        """Return float32 costs (Q, N) of every query (of one layer, or of several layers concatenated) per target.

        Args:
            class_logits (Tensor): (Q, C + 1), "no object" last.
            mask_logits (Tensor): (Q, h, w).
            labels (Tensor): (N,) class indices in [0, C); N may be 0, or more than Q.
            masks (Tensor): (N, h, w) binary targets at the resolution of ``mask_logits``.
        """
        if labels.numel() == 0:
            return class_logits.new_zeros(len(class_logits), 0, dtype=torch.float32)
        # float32: the costs take logarithms of 1e-12, which half precision cannot represent.
        predictions = InstanceData(scores=class_logits.float(), masks=mask_logits.float())
        targets = InstanceData(labels=labels, masks=masks.float())
        with torch.autocast(class_logits.device.type, enabled=False):
            return sum(match_cost(predictions, targets) for match_cost in self.match_costs)

    @staticmethod
    def solve(costs: Sequence[Tensor]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the cheapest one-to-one matching of every cost matrix (Q, N), see ``assign``, on the host.

        All matrices go to the host in one transfer.
        """
        flat_costs = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
        if not np.isfinite(flat_costs).all():
            raise FloatingPointError('the matching cost is not finite: the network diverged; lower the learning rate')
        # Solve every matrix on the host.
        ends = np.cumsum([cost.numel() for cost in costs])
        matrices = np.split(flat_costs, ends[:-1])
        return [linear_sum_assignment(matrix.reshape(cost.shape)) for matrix, cost in zip(matrices, costs, strict=True)]
