"""The `detectron2` task: the instance segmenter with a purely convolutional network.

The vendor's client reads every instance segmentation model the same way, so the contract is that of RF-DETR.
"""

from sandbox.training.rfdetr_segmentation import RfdetrSegmentation


class Detectron2(RfdetrSegmentation):
    """The instance segmenter without the transformer encoder."""

    attention = False


task = Detectron2
