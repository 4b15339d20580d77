import numpy as np
import pytest

from aiop.errors import AiopError
from aiop.finetune.baselines import OtherTasks, code_matrix, code_vector
from aiop.finetune.baselines.codes import SPACES
from aiop.finetune.baselines.estimators import ranks_averaged
from aiop.tasks import get_space, list_spaces


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_has_a_vector_and_other_codes_have_others(name):
    space, rng = get_space(name), np.random.default_rng(0)
    codes = [space.sample(rng) for _ in range(20)]
    codes += space.neighbours(codes[0])[:20]
    distinct = list(dict.fromkeys(space.validate(code) for code in codes))
    matrix = code_matrix([f"{name}:{code}" for code in distinct])
    assert matrix.shape == (len(distinct), matrix.shape[1])
    assert np.isfinite(matrix).all()
    read = {row.tobytes() for row in matrix}
    # a kernel of a layer that is not there is no part of the vector: only OFA's codes spell such
    assert len(read) == len(distinct) if name != "ofa-mbv3" else len(read) > 20
    assert name in SPACES


def test_vectors_are_those_that_the_code_spells():
    code = "16,64,1,2,80,1,2,3,32,96,3,2,2,4,48,80,32,2,2,1,2,1,112,16,128,112,16"
    np.testing.assert_array_equal(
        code_vector(f"nas-bench-mr:{code}"), [int(text) for text in code.split(",")]
    )
    np.testing.assert_array_equal(
        code_vector(f"nas-bench-mr@seg:{code}"), code_vector(f"nas-bench-mr:{code}")
    )
    np.testing.assert_array_equal(code_vector("nats-size:8:24:56:48:40"), [8, 24, 56, 48, 40])
    cell = code_vector(
        "nas-bench-201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    ).reshape(6, 5)  # none, skip, 1x1, 3x3, pool
    assert cell.argmax(axis=1).tolist() == [3, 0, 1, 0, 0, 4]
    assert (cell.sum(axis=1) == 1).all()
    # input -> 1 -> output, one vertex of 3 x 3: of seven vertices the second and the last are read
    short = code_vector("nas-bench-101:101/0")
    bits, operations = short[:21], short[21:].reshape(5, 3)
    upper = np.zeros((7, 7))
    upper[np.triu_indices(7, 1)] = bits
    assert np.argwhere(upper).tolist() == [[0, 1], [1, 6]]
    assert operations.tolist() == [[1, 0, 0], *[[0, 0, 0]] * 4]
    skeleton = code_vector("transnas-macro:64-1342-basic").reshape(6, 4)
    assert skeleton.argmax(axis=1)[:4].tolist() == [0, 2, 3, 1]
    assert skeleton[4:].sum() == 0


def test_what_has_no_code_is_refused():
    with pytest.raises(AiopError, match="has no architecture code"):
        code_matrix(["some/network.onnx"])
    with pytest.raises(AiopError, match="has no architecture code"):
        code_matrix(["timm:resnet18__224"])
    with pytest.raises(AiopError, match="one space at a time"):
        code_matrix(["nas-bench-macro:02012100", "nats-size:8:24:56:48:40"])
    assert code_matrix([]).shape == (0, 0)


def test_ranks_are_averaged_and_values_follow_them():
    predictions = np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0], [0.0, 0.3, 0.2, 0.1]])
    # ranks: 1 2 3 4 / 1 2 4 3 / 1 4 3 2: means 1, 8/3, 10/3, 3
    found = ranks_averaged(predictions)
    assert np.argsort(found).tolist() == [0, 1, 3, 2]
    np.testing.assert_allclose(np.sort(found), np.sort(predictions.mean(axis=0)))


def test_other_tasks_are_learnt_where_labels_are_enough():
    space = get_space("nas-bench-macro")
    rng = np.random.default_rng(1)
    names = list(dict.fromkeys(f"nas-bench-macro:{space.sample(rng)}" for _ in range(200)))
    twos = np.array([name.count("2", 16) for name in names], np.float64)
    few = np.where(np.arange(len(names)) < 19, twos, np.nan)
    hidden = np.where(np.arange(len(names)) < 100, twos, np.nan)
    others = OtherTasks(names, {"twos": hidden, "too few": few})
    assert others.tasks == ("twos",)
    assert np.corrcoef(others.predict(names[100:])[:, 0], twos[100:])[0, 1] > 0.6
    with pytest.raises(AiopError, match="none of 1 other tasks has 20 labels"):
        OtherTasks(names, {"too few": few})
    with pytest.raises(AiopError, match=r'"twos" has labels of shape \(5,\)'):
        OtherTasks(names, {"twos": twos[:5]})
