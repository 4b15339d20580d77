import numpy as np

from aiop.finetune.code_mlp import CodeMLP


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
