import pytest
import torch

from hardness import models
from hardness.datasets.examples import DataSet
from hardness.datasets.images import ImageAdapter, Normalize, in_memory
from tests.conftest import refused


def data(channels=3, size=64) -> DataSet:
    images = in_memory(
        torch.randint(0, 256, (4, channels, size, size), dtype=torch.uint8),
        torch.tensor([0, 1, 2, 0]),
        "train",
    )
    shape = (channels, size, size)
    return DataSet(images, images, ["a", "b", "c"], ImageAdapter(shape, [0.5] * channels, [0.25] * channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["mlp", "small_cnn", "resnet18"])
def test_uint8_images_become_logits(name, channels):
    some = data(channels, 32)
    model = models.build(name, some, seed=0)
    assert model(some.train.inputs[range(4)]).shape == (4, 3)


def test_normalized_images_have_mean_zero_and_deviation_one():
    normalize = Normalize([0.5], [0.25], out_channels=3)
    image = torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)
    assert torch.equal(normalize(image), torch.full((1, 3, 2, 2), 2.0))
    floats = image.float()
    assert torch.equal(normalize(floats), normalize(image))
    assert torch.equal(floats, image.float())


def test_weights_depend_only_on_the_seed_and_leave_the_global_generator():
    some = data(1, 8)
    state = torch.get_rng_state()
    first, again, other = (models.build("mlp", some, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["1.1.weight"], other["1.1.weight"])


def test_our_networks_have_no_batch_normalization():
    for name in ("mlp", "small_cnn"):
        modules = models.build(name, data(), seed=0).modules()
        assert not any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in modules)


def test_a_small_stem_keeps_the_resolution():
    network = models.build("resnet18", data(size=32), seed=0, stem="small")[1]
    assert network.conv1.stride == (1, 1)
    assert isinstance(network.maxpool, torch.nn.Identity)
    with refused("stem-needs-resnet", model="squeezenet1_1"):
        models.build("squeezenet1_1", data(), seed=0, stem="small")


def test_images_that_are_too_small_are_rejected():
    with refused("image-too-small", model="squeezenet1_1", height=8, width=8):
        models.build("squeezenet1_1", data(size=8), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("resnet50", 64), ("vgg13_bn", 64), ("googlenet", 64), ("inception_v3", 96)]
)
def test_torchvisions_larger_networks(name, size):
    some = data(size=size)
    assert models.build(name, some, seed=0)(some.train.inputs[range(4)]).shape == (4, 3)


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "resnet18"])
def test_bfloat16_is_used_inside_only(name):
    some = data(3, 32)
    images = some.train.inputs[range(4)]
    model, exact = (models.build(name, some, seed=0, precision=word) for word in ("bf16", "float32"))
    found, expected = model(images), exact(images)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert torch.allclose(found, expected, atol=0.1)
    # bfloat16 has an 8-bit mantissa.
    assert torch.equal(found, found.bfloat16().float())
    found.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
    assert model.state_dict().keys() == exact.state_dict().keys()


def test_larger_images_are_center_cropped():
    some = data(3, 16)
    model = models.build("small_cnn", some, seed=0)
    larger = torch.randint(0, 256, (4, 3, 20, 24), dtype=torch.uint8)
    assert torch.equal(model(larger), model(larger[:, :, 2:18, 4:20]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_gives_the_same_logits():
    """In bfloat16; tests/stages/test_images.py compares float32."""
    some = data(3, 16)
    images = some.train.inputs[range(4)]
    plain, compiled = (
        models.build("small_cnn", some, seed=0, precision="bf16", compile=each) for each in (False, True)
    )
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    tolerance = 0.02
    for each in (images, images[:3], images[::2]):
        assert torch.allclose(plain(each), compiled(each), atol=tolerance)
    with torch.no_grad():
        assert torch.allclose(plain.eval()(images), compiled.eval()(images), atol=tolerance)
