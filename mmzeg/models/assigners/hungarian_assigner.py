"""One-to-one matching of queries and targets (reference: "Training", Hungarian matching)."""

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

    @torch.no_grad()
    def assign(self, class_logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Match the queries of one image with its targets at the least total cost.

        Args:
            class_logits (Tensor): (Q, C + 1), "no object" last.
            mask_logits (Tensor): (Q, h, w).
            labels (Tensor): (N,) class indices in [0, C); N may be 0, or more than Q.
            masks (Tensor): (N, h, w) binary targets at the resolution of ``mask_logits``.

        Returns:
            tuple[Tensor, Tensor]: Query indices and target indices, both (min(Q, N),), ascending queries.

        Raises:
            FloatingPointError: A cost is not finite, so no matching means anything.
        """
        if labels.numel() == 0:
            none = labels.new_empty(0, dtype=torch.long)
            return none, none
        # float32: the costs take logarithms of 1e-12, which half precision cannot hold.
        predictions = InstanceData(scores=class_logits.float(), masks=mask_logits.float())
        targets = InstanceData(labels=labels, masks=masks.float())
        with torch.autocast(class_logits.device.type, enabled=False):
            cost = sum(match_cost(predictions, targets) for match_cost in self.match_costs)
        return self.solve(cost)

    @staticmethod
    def solve(cost: Tensor) -> tuple[Tensor, Tensor]:
        """The cheapest one-to-one matching of a (Q, N) cost matrix; see ``assign``."""
        host_cost = cost.cpu()
        if not torch.isfinite(host_cost).all():
            raise FloatingPointError('the matching cost is not finite: the network diverged; lower the learning rate')
        queries, targets = linear_sum_assignment(host_cost.numpy())
        return torch.as_tensor(queries, device=cost.device), torch.as_tensor(targets, device=cost.device)
