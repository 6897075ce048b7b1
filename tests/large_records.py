"""Runs that strain the page: thousands of samples, hundreds of layers, names that mean harm."""

import base64
import io

import records
from PIL import Image

from calib.results import (
    ActivationRecord,
    FloatTrial,
    GroupRecord,
    RemediesRecord,
    RemedyStep,
)

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u202ethgir ot tfel\u202c and \u2028 a line \u2029 end",
    "{{ 7 * 7 }} ${7*7} ]]> --> <!-- ' \" ` \\",
    "javascript:alert(1) https://example.com/x.png",
    "ﷺ" * 12 + " a\u0301" * 12,
)
LONG = "/model/encoder/" + "layer_with_a_name_that_has_no_end/" * 6


def thumbnail():
    image = Image.effect_noise((32, 32), 64)
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def samples(count, picture=None):
    flips = ("worsened", "improved", "sideways", "")
    return tuple(
        records.sample(
            id=f"sample {k} {HOSTILE[k % len(HOSTILE)]}",
            flip=flips[min(k // 40, 3)],
            label=f"class {k % 20}",
            prediction=f"class {(k + 1) % 20}",
            margin=-0.5 + k / count,
            margin_loss=1.5 - k / count,
            text=f"{HOSTILE[(k + 1) % len(HOSTILE)]} {'a word or two ' * 40}number {k}",
            thumbnail_png_base64=picture,
            metadata={"source": HOSTILE[k % len(HOSTILE)], "row": str(k)},
        )
        for k in range(count)
    )


def layers(count):
    return tuple(
        records.error(
            tensor=f"{LONG}{k}/output", node=f"node{k}", sqnr_db=60 - (k * 7919) % 400 / 10
        )
        for k in range(count)
    )


def activations(count):
    bell = tuple(int(1e6 * 0.93**k) for k in range(100)) + (0,) * 28
    return tuple(
        ActivationRecord(
            tensor=f"{LONG}{k}/output",
            consumers=(f"node{k}",),
            count=sum(bell),
            zeros=5,
            minimum=-1.0,
            maximum=3.0,
            amax={"minmax": 3.0, "entropy": 1.0 + k / count},
            clipped_pct={"minmax": 0.0, "entropy": 0.5},
            histogram=bell,
            histogram_end=4.0,
        )
        for k in range(count)
    )


def remedies():
    step = {"sqnr_db": 20.0, "changed": 3, "kept": True, "nodes": 20, "size_bytes": 1000}
    groups = tuple(
        GroupRecord(
            name=f"{LONG}{k}",
            nodes=(f"node{k}",),
            macs_pct=5.0,
            alone_db=20.0 + k,
            in_float=k < 3,
        )
        for k in range(12)
    )
    trials = tuple(
        FloatTrial(groups=(), sqnr_db=30.0 - k, macs_int8_pct=80.0 + 4 * k, kept=k == 2)
        for k in range(4)
    )
    return RemediesRecord(
        fitted_samples=64,
        kept_aside=32,
        passes=2.0,
        seconds=1.0,
        equality_db=None,
        steps=(RemedyStep(name="as it is", what=HOSTILE[0] + " what it does at length", **step),),
        groups=groups,
        trials=trials,
        macs_int8_pct=88.0,
    )


def large_run(count=4000, depth=200, picture=None):
    """As much as a page has to hold."""
    run = records.run(
        records.fp32(),
        records.candidate("fp16", layers=layers(depth), latency=(records.latency(3.0),)),
        records.candidate(
            layers=layers(depth), tail=samples(count, picture), warnings=(HOSTILE[0],)
        ),
        experiment=HOSTILE[0],
        remedies=remedies(),
    )
    found = run.calibration.model_copy(
        update={
            "calibrators": ("minmax", "entropy"),
            "activations": activations(40),
            "warnings": HOSTILE,
        }
    )
    return run.model_copy(update={"calibration": found})
