import numpy as np
import torch

from aiop.finetune.baselines.code_mlp import CodeMLP


def test_learns_a_function_of_the_code_and_repeats_itself():
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 5, (600, 4)).astype(float)
    targets = np.stack([codes[:, 0] * codes[:, 1], 50 - codes[:, 2]], axis=1)
    fitted = CodeMLP(epochs=40).fit(codes[:500], targets[:500])
    predicted = fitted.predict(codes[500:])
    for column in range(2):
        assert np.corrcoef(predicted[:, column], targets[500:, column])[0, 1] > 0.95
    again = CodeMLP(epochs=40).fit(codes[:500], targets[:500])
    np.testing.assert_array_equal(again.predict(codes[500:]), predicted)


def test_layers_have_the_published_sizes():
    rng = np.random.default_rng(1)
    codes, targets = rng.integers(1, 5, (40, 27)).astype(float), rng.normal(size=(40, 4))
    network = CodeMLP(epochs=1, groups=(1, 1, 2), dropouts=(0.5, 0.5, 0.0)).fit(codes, targets).network
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters() if tensor.ndim == 2}
    assert shapes == {
        "body.1.weight": (256, 27),
        **{f"heads.{head}.0.weight": (128, 256) for head in range(3)},
        **{f"heads.{head}.4.weight": (outputs, 128) for head, outputs in enumerate((1, 1, 2))},
    }
    drops = [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)]
    assert drops == [0.5, 0.5, 0.5, 0.0]
    # batch norm of the input, of 256 and of three times 128: each a scale and a shift, and biases of every linear layer
    norms = 2 * (27 + 256 + 3 * 128)
    assert sum(p.numel() for p in network.parameters()) == (
        norms + 27 * 256 + 256 + 3 * (256 * 128 + 128) + 4 * 128 + 4
    )


def test_a_last_row_alone_joins_the_batch_before():
    rng = np.random.default_rng(2)
    codes = rng.integers(1, 5, (129, 3)).astype(float)
    fitted = CodeMLP(epochs=2).fit(codes, codes[:, :1])
    assert fitted.predict(codes).shape == (129, 1)
