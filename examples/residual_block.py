"""A network of one's own: a residual block, written as in torch.nn.

Every module is traced once into a graph; `+` and the functions of convcore are
traced with it, and their gradients follow from it.
"""

import convcore as cc
from convcore import data, nn, optim


class Residual(nn.Module):
    """y = relu(x + conv(relu(conv(x)))), with 3x3 filters (He et al., 2016)."""

    def __init__(self, channels):
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return cc.relu(x + self.conv2(cc.relu(self.conv1(x))))


network = nn.Sequential(
    nn.Conv2d(1, 16, 3, stride=2, padding=1),  # 28x28 -> 14x14
    nn.ReLU(),
    Residual(16),
    nn.MaxPool2d(2),
    Residual(16),
    nn.Flatten(),
    nn.Linear(16 * 7 * 7, 10),
)

train, test = data.digits()
model = cc.Model(network, input_shape=(1, 28, 28), seed=0)
print(model.summary())
model.fit(
    train,
    validation=test,
    epochs=5,
    batch_size=64,
    optimizer=optim.SGD(lr=0.05, momentum=0.9),
    augment="shift",
)
print(f"test accuracy {100 * model.evaluate(test)['accuracy']:.2f} %")
