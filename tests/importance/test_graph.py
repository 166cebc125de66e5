import torch

from efface.importance.graph import Graph
from efface.models import lenet5


def test_every_layer_of_lenet5_is_one_operation():
    model = lenet5().eval()
    graph = Graph(model, torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert [str(node.target) for node in graph.nodes if node.op == "call_module"] == [
        n for n, _ in model.named_children()
    ]
