"""Every network that training makes.

Rules.
1. What ships holds only plain convolutions, batch normalisation, ReLU, nearest upsampling, addition
   and concatenation: what every backend fuses and what explicit INT8 can carry. Teachers may hold
   more; they export, but never ship.
2. Inputs are windowed to [0, 1]; outputs are logits (or ln mm). No activation at the end.
3. Fully convolutional where the input's size varies; sizes are multiples of 16.
"""

from training.networks.blocks import parameter_count
from training.networks.cube import CubeNet
from training.networks.efficientnet import EfficientNetLite0
from training.networks.hybrid import HybridNet
from training.networks.lungs import LungNet, SickLungNet
from training.networks.mass import DrawnMassNet, MassNet
from training.networks.measure import MeasureNet
from training.networks.patch import PatchNet
from training.networks.propose import Outlined, ProposeNet
from training.networks.resnest import ResNeSt50

__all__ = [
    "CubeNet",
    "DrawnMassNet",
    "EfficientNetLite0",
    "HybridNet",
    "LungNet",
    "MassNet",
    "MeasureNet",
    "Outlined",
    "PatchNet",
    "ProposeNet",
    "ResNeSt50",
    "SickLungNet",
    "parameter_count",
]
