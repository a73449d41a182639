"""Find objects in a photograph with a detector from an ONNX file, and draw them.

The network is FastestDet (https://github.com/dog-qiuqiu/FastestDet), trained on the
80 classes of COCO. For each cell of a grid it gives how sure it is of an object, the
object's place and size, and the probabilities of the classes.

    python detect_objects.py model.onnx dog.jpg found.png
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw

import convcore as cc
from convcore.data import load_image

# fmt: off
CLASSES = (
    "person", "bicycle", "car", "motorbike", "aeroplane", "bus", "train", "truck",
    "boat", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench",
    "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
    "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "sofa", "pottedplant",
    "bed", "diningtable", "toilet", "tvmonitor", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on


def detect(model, image, least=0.5):
    """Objects in an image.

    Parameters
    ----------
    model : Model
    image : PIL.Image.Image
    least : float
        Score that an object must have.

    Returns
    -------
    list of (score, class, (left, top, right, bottom))
        The best first; places in pixels.
    """
    height, width = model.input_shape[1:]
    pixels = np.asarray(image.convert("RGB").resize((width, height)), np.float32)
    blue_first = pixels.transpose(2, 0, 1)[::-1] / 255
    (cells,) = model.predict(blue_first[None])

    rows, columns = np.indices(cells.shape[1:])
    x = (columns + np.tanh(cells[1])) / cells.shape[2] * image.width
    y = (rows + np.tanh(cells[2])) / cells.shape[1] * image.height
    w = sigmoid(cells[3]) * image.width / 2
    h = sigmoid(cells[4]) * image.height / 2
    boxes = np.stack([x - w, y - h, x + w, y + h], -1).reshape(-1, 4)
    scores = (cells[0] ** 0.6 * cells[5:].max(0) ** 0.4).reshape(-1)
    classes = cells[5:].argmax(0).reshape(-1)

    found = []
    for i in np.argsort(-scores):
        if scores[i] < least:
            break
        if all(overlap(boxes[i], box) < 0.45 for _, _, box in found):
            found.append((float(scores[i]), CLASSES[classes[i]], boxes[i]))
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def overlap(a, b):
    """Common area of two boxes, as a share of the area of both together."""
    inside = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.prod(np.maximum(inside, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def draw(image, found):
    """Draw boxes and names into an image."""
    pen = ImageDraw.Draw(image)
    for score, name, box in found:
        pen.rectangle(box.tolist(), outline="red", width=3)
        pen.text((box[0] + 5, box[1] + 5), f"{name} {score:.0%}", fill="red")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="ONNX file of the detector")
    parser.add_argument("image", help="photograph")
    parser.add_argument("output", help="where the photograph with boxes is written")
    paths = parser.parse_args(arguments)

    model = cc.onnx.load(paths.model).freeze()
    image = Image.fromarray(load_image(paths.image).transpose(1, 2, 0))
    found = detect(model, image)
    for score, name, box in found:
        print(f"{name:15} {score:.2f}  at {box.round().astype(int).tolist()}")
    draw(image, found)
    image.save(paths.output)


if __name__ == "__main__":
    main()
