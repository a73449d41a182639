"""Train LeNet-5 on the built-in digits and name ten of the test images."""

import convcore as cc
from convcore import data, models, optim

train, test = data.digits()
model = cc.Model(models.lenet5(), input_shape=(1, 28, 28), seed=0)
optimizer = optim.SGD(lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)
cycle = optim.OneCycleLR(pct_start=0.1)
model.fit(train, epochs=40, optimizer=optimizer, schedule=cycle, augment="shift")
print(f"test accuracy {100 * model.evaluate(test)['accuracy']:.2f} %")

images, digits = next(test.batches(10))
print("digits ", *digits)
print("network", *model.predict(images).argmax(axis=1))
