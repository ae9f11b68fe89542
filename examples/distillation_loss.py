"""Knowledge distillation: the KL divergence of a student's predictions from a teacher's.

Both sides are softened by a temperature, whose square scales the loss.
"""

import torch
from torch import nn
from torch.nn import functional as F

WORKLOADS = {
    "classes1000": {"batch": 1024, "classes": 1000},
    "classes8192": {"batch": 128, "classes": 8192},
}
HELD_OUT = {"odd": {"batch": 149, "classes": 1777}}


class Model(nn.Module):
    def __init__(self, temperature: float = 2.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        log_student = F.log_softmax(student / self.temperature, dim=-1)
        soft_teacher = F.softmax(teacher / self.temperature, dim=-1)
        loss = F.kl_div(log_student, soft_teacher, reduction="batchmean")
        return loss * self.temperature**2


def get_inputs(batch=1024, classes=1000):
    return [torch.randn(batch, classes) * 2, torch.randn(batch, classes) * 2]


def get_init_inputs():
    return [2.0]
