"""TRADES-10 as public repositories write it: float32, NCHW, a full backward pass in every attack step."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ops.train.engine import Engine


def textbook(engine: Engine) -> Callable[[int], float]:
    """Return the step of TRADES-10 as public repositories write it, on a copy of the engine's network."""
    model = copy.deepcopy(engine.model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    average = copy.deepcopy(model)
    eps, beta = engine.recipe.threat.eps, engine.recipe.beta
    size = engine.recipe.attack.step_size * eps
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in norms], "weight_decay": 5e-4},
        {"params": [p for p in model.parameters() if id(p) in norms], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=engine.recipe.schedule.lr, momentum=0.9, nesterov=True)

    def step(number: int) -> float:
        x, start, targets = (part.contiguous() for part in engine.batch(number))
        y = targets.argmax(dim=1)
        model.train()
        p_natural = F.softmax(model(x), dim=1)
        x_adv = start.detach()
        for _ in range(engine.recipe.attack.steps):
            x_adv.requires_grad_()
            optimizer.zero_grad()
            loss_kl = F.kl_div(F.log_softmax(model(x_adv), dim=1), p_natural.detach(), reduction="sum")
            loss_kl.backward()
            assert x_adv.grad is not None
            x_adv = x_adv.detach() + size * torch.sign(x_adv.grad.detach())
            x_adv = torch.min(torch.max(x_adv, x - eps), x + eps)
            x_adv = torch.clamp(x_adv, 0.0, 1.0)
        optimizer.zero_grad()
        logits_natural, logits_adv = model(x), model(x_adv)
        loss_natural = F.cross_entropy(logits_natural, y)
        robust = F.kl_div(F.log_softmax(logits_adv, dim=1), F.softmax(logits_natural, dim=1), reduction="batchmean")
        loss = loss_natural + beta * robust
        loss.backward()
        optimizer.step()
        decay = min(engine.recipe.averaging.decay, (1 + number) / (10 + number))
        with torch.no_grad():
            for kept, live in zip(average.parameters(), model.parameters(), strict=True):
                kept.mul_(decay).add_(live, alpha=1 - decay)
        return float(loss.detach())

    return step
